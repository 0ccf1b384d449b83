"""Multi-head attention by Transformers' attention interface: eager, SDPA or any other registered implementation."""

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


class MultiHeadAttention(nn.Module):
    """Projections of d channels with biases, and what lies between them."""

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

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor | None]:
        """Projected `(B, N, d)` each -> `(B, N, d)` before the output projection, and the weights or `None`."""
        heads = (*query.shape[:2], -1, self.head_dim)
        query, key, value = (states.view(heads).transpose(1, 2) for states in (query, key, value))
        attention = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        attended, weights = attention(self, query, key, value, None, scaling=self.scaling, dropout=0.0)
        return attended.flatten(2), weights
