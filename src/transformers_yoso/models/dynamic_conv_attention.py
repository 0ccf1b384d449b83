"""Separable dynamic convolution attention, SDCA (paper section 3.3, Eq. 7-9)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def layer_norm(hidden_states: Tensor, norm: nn.LayerNorm) -> Tensor:
    """`norm` computed in the dtype of `hidden_states`, which may be wider than that of the weights."""
    dtype = hidden_states.dtype
    return F.layer_norm(hidden_states, norm.normalized_shape, norm.weight.to(dtype), norm.bias.to(dtype), norm.eps)


def depthwise_conv(values: Tensor, kernels: Tensor) -> Tensor:
    """Convolution of `(B, N, d)` along d, each query with its own t taps of `kernels` `(B, N, t)`."""
    num_taps, width = kernels.shape[-1], values.shape[-1]
    padded = F.pad(values, (num_taps // 2,) * 2)
    total = padded[..., :width] * kernels[..., :1]
    for tap in range(1, num_taps):
        total = torch.addcmul(total, padded[..., tap : tap + width], kernels[..., tap : tap + 1])
    return total


def mix(weights: Tensor, values: Tensor) -> Tensor:
    """Product of `(B, N, M)` and `(B, M, d)` in their own dtype, also under autocast."""
    with torch.autocast(device_type=values.device.type, enabled=False):
        return torch.bmm(weights, values)


class SeparableDynamicConvAttention(nn.Module):
    """Mixes values with a depthwise and a pointwise 1-D convolution whose kernels are predicted from the queries.

    One linear layer gives `t + N` numbers a query: its depthwise kernel along d, and its row of the pointwise mixing
    of the N values. The ReLU between them is the released code's; Eq. 9 does not show it.

    Args:
        hidden_dim (`int`): d.
        num_queries (`int`): N.
        kernel_size (`int`): Taps t, odd.
    """

    def __init__(self, hidden_dim: int, num_queries: int, kernel_size: int) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.num_queries = num_queries
        self.dynamic_kernels = nn.Linear(hidden_dim, kernel_size + num_queries)
        self.norm = nn.LayerNorm(hidden_dim)

    def forward(self, queries: Tensor, values: Tensor) -> Tensor:
        """
        Args:
            queries (`Tensor` of shape `(B, N, d)`): Kernels Q.
            values (`Tensor` of shape `(B, N, d)`): V, of the same or a wider dtype.

        Returns:
            `Tensor`: shape `(B, N, d)`, dtype of `values`.
        """
        kernels = self.dynamic_kernels(queries).to(values.dtype)
        depthwise, pointwise = kernels.split((self.kernel_size, self.num_queries), dim=-1)
        return layer_norm(mix(pointwise, depthwise_conv(values, depthwise).relu()), self.norm)
