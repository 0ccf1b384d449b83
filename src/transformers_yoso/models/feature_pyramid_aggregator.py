"""Feature pyramid aggregator (paper section 3.2): pyramid -> aggregation -> feature map S."""

import torch
from torch import Tensor, nn

from .feature_aggregation import build_aggregation
from .feature_pyramid import DeformableFeaturePyramid


def coordinates(length: int, like: Tensor) -> Tensor:
    """`torch.linspace(-1, 1, length)`, by operations that do not fix `length` in a compiled graph."""
    steps = torch.arange(length, device=like.device, dtype=torch.promote_types(like.dtype, torch.float32))
    return (steps * (2 / max(length - 1, 1)) - 1).to(like.dtype)


def append_coordinate_features(features: Tensor) -> Tensor:
    """Appends two channels, x then y, each running linearly from -1 to 1 over the map, ends included.

    `(B, C, h, w)` -> `(B, C + 2, h, w)`.
    """
    batch_size, _, height, width = features.shape
    x = coordinates(width, features).view(1, 1, 1, width).expand(batch_size, 1, height, width)
    y = coordinates(height, features).view(1, 1, height, 1).expand(batch_size, 1, height, width)
    return torch.cat((features, x, y), dim=1)


class FeaturePyramidAggregator(nn.Module):
    """Backbone features C2..C5 -> feature map S at 1/4 scale.

    Args:
        in_channels (`list[int]`): Channels of C2..C5.
        pyramid_channels (`list[int]`): Channels of P2..P5.
        aggregation_dim (`int`): Channels of the aggregated map.
        hidden_dim (`int`): Channels d of S.
        aggregator_type (`str`), fusion_kernel_size (`int`): See [`YosoConfig`].
    """

    def __init__(
        self,
        in_channels: list[int],
        pyramid_channels: list[int],
        aggregation_dim: int,
        hidden_dim: int,
        aggregator_type: str = "cfa",
        fusion_kernel_size: int = 1,
    ) -> None:
        super().__init__()
        self.pyramid = DeformableFeaturePyramid(in_channels, pyramid_channels)
        self.aggregation = build_aggregation(aggregator_type, pyramid_channels, aggregation_dim, fusion_kernel_size)
        self.output_conv = nn.Conv2d(aggregation_dim, aggregation_dim, kernel_size=3, padding=1)
        self.location_conv = nn.Conv2d(aggregation_dim + 2, hidden_dim, kernel_size=1)

    def forward(self, features: list[Tensor]) -> Tensor:
        """C2..C5, each `(B, C_i, H_i, W_i)` -> S `(B, d, h, w)` with the size of C2."""
        aggregated = self.output_conv(self.aggregation(self.pyramid(features)))
        return self.location_conv(append_coordinate_features(aggregated))
