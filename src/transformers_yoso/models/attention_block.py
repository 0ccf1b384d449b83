"""The attention of the kernels over the pooled values, by the config's name for it (paper section 3.3, Table 6)."""

from torch import Tensor, nn

from .configuration_yoso import YosoConfig
from .cross_attention import MultiHeadCrossAttention
from .dynamic_conv_ablations import (
    DepthwiseDynamicConvAttention,
    DynamicConvAttention,
    PointwiseDynamicConvAttention,
)
from .dynamic_conv_attention import SeparableDynamicConvAttention, layer_norm

DYNAMIC_CONV_ATTENTIONS = {
    "sdca": SeparableDynamicConvAttention,
    "dca": DynamicConvAttention,
    "pdca": PointwiseDynamicConvAttention,
    "ddca": DepthwiseDynamicConvAttention,
}


def build_attention(config: YosoConfig) -> nn.Module:
    """The attention of `config.attention_type`: Q and V of shape `(B, N, d)` -> `(B, N, d)`."""
    if config.attention_type == "mhca":
        return MultiHeadCrossAttention(config)
    attention = DYNAMIC_CONV_ATTENTIONS[config.attention_type]
    return attention(config.hidden_dim, config.num_queries, config.dynamic_kernel_size)


class AttentionBlock(nn.Module):
    """One residual block: LayerNorm(V + attention(Q, V))."""

    def __init__(self, config: YosoConfig) -> None:
        super().__init__()
        self.attention = build_attention(config)
        self.norm = nn.LayerNorm(config.hidden_dim)

    def forward(self, queries: Tensor, values: Tensor) -> Tensor:
        """Q and V of shape `(B, N, d)` -> `(B, N, d)`."""
        return layer_norm(values + self.attention(queries, values), self.norm)
