"""Aggregation of the pyramid levels into one map: convolution-first or interpolation-first (paper section 3.2).

Both are linear, and a bias-free 1x1 convolution commutes with bilinear interpolation (Observation I). So the two are
equal if the interpolation-first weight, split by input channels, is that of the convolution-first levels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConvolutionFirstAggregation(nn.Module):
    """CFA: project every level with a 1x1 convolution first, then upsample and sum (Table 5).

    Equal to interpolation-first aggregation at a fraction of its operations.
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
            aggregated = aggregated + upsample(level_conv(level), aggregated.shape[-2:])
        return aggregated


class InterpolationFirstAggregation(nn.Module):
    """IFA: upsample every level, concatenate, then project with one convolution (Table 5).

    Args:
        in_channels (`list[int]`): Channels of P2..P5.
        out_channels (`int`): Channels of the aggregated map.
        kernel_size (`int`): Side of the fusion convolution, odd. The paper's is 1; that in the comments of the
            released code is 3, which has no convolution-first form.
    """

    def __init__(self, in_channels: list[int], out_channels: int, kernel_size: int = 1) -> None:
        super().__init__()
        self.in_channels = list(in_channels)
        self.fusion_conv = nn.Conv2d(sum(in_channels), out_channels, kernel_size, padding=kernel_size // 2, bias=False)
        self.bias = nn.Parameter(torch.zeros(1, out_channels, 1, 1))

    def forward(self, pyramid: list[Tensor]) -> Tensor:
        """P2..P5 -> `(B, C_out, h, w)` at P2's size."""
        size = pyramid[0].shape[-2:]
        upsampled = [upsample(level, size) for level in pyramid[:0:-1]]
        return self.fusion_conv(torch.cat((*upsampled, pyramid[0]), dim=1)) + self.bias


def upsample(features: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, pixel centres aligned: `(B, C, H, W)` -> `(B, C, *size)`."""
    return F.interpolate(features, size=size, mode="bilinear", align_corners=False)


def build_aggregation(
    aggregator_type: str, in_channels: list[int], out_channels: int, fusion_kernel_size: int = 1
) -> ConvolutionFirstAggregation | InterpolationFirstAggregation:
    """The aggregation of a config's `aggregator_type`, "cfa" or "ifa"."""
    if aggregator_type == "cfa":
        return ConvolutionFirstAggregation(in_channels, out_channels)
    return InterpolationFirstAggregation(in_channels, out_channels, fusion_kernel_size)


def is_linear_fusion(convolution: nn.Conv2d) -> bool:
    """Whether Observation I holds for the convolution."""
    return convolution.kernel_size == (1, 1) and convolution.bias is None


def check_linear_fusion(convolution: nn.Conv2d) -> None:
    """
    Raises:
        ValueError: if Observation I does not hold for the convolution: it has a bias, or is not 1x1.
    """
    if convolution.kernel_size != (1, 1):
        side = "x".join(map(str, convolution.kernel_size))
        raise ValueError(
            f"Only 1x1 fusion convolutions can be re-parameterised, and this one is {side}: it does not commute with "
            "the interpolation. Train with `fusion_kernel_size=1`."
        )
    if convolution.bias is not None:
        raise ValueError(
            "Only fusion convolutions without bias can be re-parameterised: add its bias to `aggregation.bias`, which "
            "both forms share, and set it to None."
        )


@torch.no_grad()
def convolution_first(aggregation: InterpolationFirstAggregation) -> ConvolutionFirstAggregation:
    """The equal CFA: IFA's weight, split by levels.

    Raises:
        ValueError: see [`check_linear_fusion`].
    """
    fusion = aggregation.fusion_conv
    check_linear_fusion(fusion)
    with torch.device("meta"):
        converted = ConvolutionFirstAggregation(aggregation.in_channels, fusion.out_channels)
    weights = fusion.weight.split(aggregation.in_channels[::-1], dim=1)[::-1]
    for level_conv, weight in zip(converted.level_convs, weights, strict=True):
        level_conv.weight = nn.Parameter(weight.clone(), requires_grad=fusion.weight.requires_grad)
    converted.bias = aggregation.bias
    return converted.train(aggregation.training)


@torch.no_grad()
def interpolation_first(aggregation: ConvolutionFirstAggregation) -> InterpolationFirstAggregation:
    """The equal IFA: CFA's weights, joined.

    Raises:
        ValueError: see [`check_linear_fusion`].
    """
    for level_conv in aggregation.level_convs:
        check_linear_fusion(level_conv)
    weights = [level_conv.weight for level_conv in aggregation.level_convs]
    with torch.device("meta"):
        converted = InterpolationFirstAggregation([weight.shape[1] for weight in weights], len(weights[0]))
    trained = any(weight.requires_grad for weight in weights)
    converted.fusion_conv.weight = nn.Parameter(torch.cat(weights[::-1], dim=1), requires_grad=trained)
    converted.bias = aggregation.bias
    return converted.train(aggregation.training)
