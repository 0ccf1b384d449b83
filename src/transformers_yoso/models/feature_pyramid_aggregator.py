"""Feature pyramid aggregator (paper section 3.2): pyramid -> convolution-first aggregation -> feature map S."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .feature_pyramid import DeformableFeaturePyramid


class ConvolutionFirstAggregation(nn.Module):
    """CFA: project every level with a 1x1 convolution first, then upsample and sum (Observation I, Table 5).

    Equal to interpolation-first aggregation (upsample, concatenate, one 1x1 convolution), as both steps are linear,
    at a fraction of its operations.
    """

    def __init__(self, in_channels: list[int], out_channels: int) -> None:
        super().__init__()
        self.level_convs = nn.ModuleList(
            nn.Conv2d(channels, out_channels, kernel_size=1, bias=False) for channels in in_channels
        )
        self.bias = nn.Parameter(torch.zeros(1, out_channels, 1, 1))

    def forward(self, pyramid: list[Tensor]) -> Tensor:
        """P2..P5 -> `(B, C_out, h, w)` at P2's size."""
        aggregated = self.level_convs[0](pyramid[0]) + self.bias
        for level_conv, level in zip(self.level_convs[1:], pyramid[1:], strict=True):
            projected = level_conv(level)
            aggregated = aggregated + F.interpolate(
                projected, size=aggregated.shape[-2:], mode="bilinear", align_corners=False
            )
        return aggregated


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
    """

    def __init__(
        self, in_channels: list[int], pyramid_channels: list[int], aggregation_dim: int, hidden_dim: int
    ) -> None:
        super().__init__()
        self.pyramid = DeformableFeaturePyramid(in_channels, pyramid_channels)
        self.aggregation = ConvolutionFirstAggregation(pyramid_channels, aggregation_dim)
        self.output_conv = nn.Conv2d(aggregation_dim, aggregation_dim, kernel_size=3, padding=1)
        self.location_conv = nn.Conv2d(aggregation_dim + 2, hidden_dim, kernel_size=1)

    def forward(self, features: list[Tensor]) -> Tensor:
        """C2..C5, each `(B, C_i, H_i, W_i)` -> S `(B, d, h, w)` with the size of C2."""
        aggregated = self.output_conv(self.aggregation(self.pyramid(features)))
        return self.location_conv(append_coordinate_features(aggregated))
