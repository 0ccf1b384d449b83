"""Post-attention: self-attention among the kernels, then a feed-forward network (paper section 3.3)."""

from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .configuration_yoso import YosoConfig


def eager_attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: object,
) -> tuple[Tensor, Tensor]:
    """Plain attention that returns its weights; `query`, `key`, `value` of shape `(B, heads, N, d / heads)`."""
    weights = (query @ key.transpose(-2, -1) * scaling).softmax(dim=-1)
    return (weights @ value).transpose(1, 2).contiguous(), weights


class KernelSelfAttention(nn.Module):
    """Multi-head self-attention among the N kernels."""

    def __init__(self, config: YosoConfig) -> None:
        super().__init__()
        self.config = config
        self.head_dim = config.hidden_dim // config.num_attention_heads
        self.scaling = self.head_dim**-0.5
        self.is_causal = False
        self.q_proj = nn.Linear(config.hidden_dim, config.hidden_dim)
        self.k_proj = nn.Linear(config.hidden_dim, config.hidden_dim)
        self.v_proj = nn.Linear(config.hidden_dim, config.hidden_dim)
        self.o_proj = nn.Linear(config.hidden_dim, config.hidden_dim)

    def forward(self, kernels: Tensor) -> tuple[Tensor, Tensor | None]:
        """`(B, N, d)` -> `(B, N, d)` and, with the eager implementation only, the weights `(B, heads, N, N)`."""
        batch_size, num_queries, hidden_dim = kernels.shape
        heads = (batch_size, num_queries, -1, self.head_dim)
        query, key, value = (
            proj(kernels).view(heads).transpose(1, 2) for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        attention = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        attended, weights = attention(self, query, key, value, None, scaling=self.scaling, dropout=0.0)
        return self.o_proj(attended.reshape(batch_size, num_queries, hidden_dim)), weights


class PostAttention(nn.Module):
    """K <- LayerNorm(K + MHSA(K)); K <- LayerNorm(K + FFN(K))."""

    def __init__(self, config: YosoConfig) -> None:
        super().__init__()
        self.self_attention = KernelSelfAttention(config)
        self.attention_norm = nn.LayerNorm(config.hidden_dim)
        self.feedforward = nn.Sequential(
            nn.Linear(config.hidden_dim, config.feedforward_dim),
            nn.ReLU(),
            nn.Linear(config.feedforward_dim, config.hidden_dim),
        )
        self.feedforward_norm = nn.LayerNorm(config.hidden_dim)

    def forward(self, kernels: Tensor) -> tuple[Tensor, Tensor | None]:
        """`(B, N, d)` -> `(B, N, d)` and the attention weights `(B, heads, N, N)` or `None`."""
        attended, weights = self.self_attention(kernels)
        kernels = self.attention_norm(kernels + attended)
        return self.feedforward_norm(kernels + self.feedforward(kernels)), weights
