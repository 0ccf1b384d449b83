"""Multi-head cross-attention, MHCA: what the paper's dynamic convolutions stand in for (Table 6)."""

import torch
from torch import Tensor, nn
from torch.func import functional_call

from .configuration_yoso import YosoConfig
from .dynamic_conv_attention import layer_norm
from .multi_head_attention import MultiHeadAttention


class MultiHeadCrossAttention(MultiHeadAttention):
    """LayerNorm(softmax(Q Vᵀ) V) with heads and projections, as `torch.nn.MultiheadAttention` of Q over V."""

    def __init__(self, config: YosoConfig) -> None:
        super().__init__(config)
        self.norm = nn.LayerNorm(config.hidden_dim)

    def forward(self, queries: Tensor, values: Tensor) -> Tensor:
        """
        Args:
            queries (`Tensor` of shape `(B, N, d)`): Kernels Q.
            values (`Tensor` of shape `(B, N, d)`): V, of the same or a wider dtype.

        Returns:
            `Tensor`: shape `(B, N, d)`, dtype of `values`.
        """
        # Sums over the pixels of a mask leave float16's range.
        with torch.autocast(device_type=values.device.type, enabled=False):
            query = apply_in_dtype(self.q_proj, queries.to(values.dtype))
            attended, _ = self.attend(query, apply_in_dtype(self.k_proj, values), apply_in_dtype(self.v_proj, values))
            return layer_norm(apply_in_dtype(self.o_proj, attended), self.norm)


def apply_in_dtype(layer: nn.Module, inputs: Tensor) -> Tensor:
    """`layer(inputs)` computed in the dtype of `inputs`, which may be wider than that of the weights."""
    if layer.weight.dtype == inputs.dtype:
        return layer(inputs)
    weights = {name: parameter.to(inputs.dtype) for name, parameter in layer.named_parameters()}
    return functional_call(layer, weights, (inputs,))
