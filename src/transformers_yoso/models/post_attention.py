"""Post-attention: self-attention among the kernels, then a feed-forward network (paper section 3.3)."""

from torch import Tensor, nn

from .configuration_yoso import YosoConfig
from .multi_head_attention import MultiHeadAttention


class KernelSelfAttention(MultiHeadAttention):
    """Multi-head self-attention among the N kernels."""

    def forward(self, kernels: Tensor) -> tuple[Tensor, Tensor | None]:
        """`(B, N, d)` -> `(B, N, d)` and, with the eager implementation only, the weights `(B, heads, N, N)`."""
        attended, weights = self.attend(self.q_proj(kernels), self.k_proj(kernels), self.v_proj(kernels))
        return self.o_proj(attended), weights


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
