"""Dynamic convolution attentions that the paper compares SDCA with (Table 6).

All have the arguments of [`SeparableDynamicConvAttention`] and, like it, end in a LayerNorm.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from .dynamic_conv_attention import depthwise_conv, layer_norm, mix


class DynamicConvAttention(nn.Module):
    """DCA: a full 1-D convolution, t taps along d of each of the N values for each of the N queries."""

    def __init__(self, hidden_dim: int, num_queries: int, kernel_size: int) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.dynamic_kernels = nn.Linear(hidden_dim, num_queries * kernel_size)
        self.norm = nn.LayerNorm(hidden_dim)

    def forward(self, queries: Tensor, values: Tensor) -> Tensor:
        """Q and V of shape `(B, N, d)` -> `(B, N, d)`."""
        kernels = self.dynamic_kernels(queries).to(values.dtype)
        windows = F.pad(values, (self.kernel_size // 2,) * 2).unfold(-1, self.kernel_size, 1)
        # (value, tap) as one axis, as the kernels have it.
        return layer_norm(mix(kernels, windows.transpose(-1, -2).flatten(1, 2)), self.norm)


class PointwiseDynamicConvAttention(nn.Module):
    """PDCA: only the pointwise mixing of the N values."""

    def __init__(self, hidden_dim: int, num_queries: int, kernel_size: int) -> None:
        super().__init__()
        self.dynamic_kernels = nn.Linear(hidden_dim, num_queries)
        self.norm = nn.LayerNorm(hidden_dim)

    def forward(self, queries: Tensor, values: Tensor) -> Tensor:
        """Q and V of shape `(B, N, d)` -> `(B, N, d)`."""
        return layer_norm(mix(self.dynamic_kernels(queries).to(values.dtype), values), self.norm)


class DepthwiseDynamicConvAttention(nn.Module):
    """DDCA: only the depthwise convolution along d, without ReLU; values are not mixed."""

    def __init__(self, hidden_dim: int, num_queries: int, kernel_size: int) -> None:
        super().__init__()
        self.dynamic_kernels = nn.Linear(hidden_dim, kernel_size)
        self.norm = nn.LayerNorm(hidden_dim)

    def forward(self, queries: Tensor, values: Tensor) -> Tensor:
        """Q and V of shape `(B, N, d)` -> `(B, N, d)`."""
        return layer_norm(depthwise_conv(values, self.dynamic_kernels(queries).to(values.dtype)), self.norm)
