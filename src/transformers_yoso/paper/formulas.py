"""Operations of aggregations and attentions by formula, counted as the authors count them.

One operation is one multiply-add of a convolution or matrix product. The counter of the released notebooks (fvcore)
adds 5 for each entry of a LayerNorm and 4 for each entry of a bilinearly upsampled map; sums of maps cost 1 an entry.
Softmax, ReLU and biases of projections count nothing.
"""

from collections.abc import Callable, Sequence

LAYER_NORM = 5
BILINEAR = 4


def ifa_operations(channels: Sequence[int], out_channels: int, height: int, width: int) -> int:
    """Interpolation-first: upsample P3..P5, one 1x1 convolution of all at P2's size, add the bias.

    Args:
        channels: of P2..P5.
        out_channels: of the aggregated map.
        height, width: of P2.
    """
    pixels = height * width
    upsampling = BILINEAR * sum(channels[1:]) * pixels
    return upsampling + sum(channels) * out_channels * pixels + out_channels * pixels


def cfa_operations(channels: Sequence[int], out_channels: int, height: int, width: int) -> int:
    """Convolution-first: a 1x1 convolution of each level at its own size, upsample, add up with the bias."""
    pixels = height * width
    convolutions = sum(
        level_channels * out_channels * (pixels >> 2 * level) for level, level_channels in enumerate(channels)
    )
    coarse_levels = len(channels) - 1
    return convolutions + (BILINEAR * coarse_levels + len(channels)) * out_channels * pixels


def mhca_operations(n: int, d: int, t: int) -> int:
    """Four projections, weights, weighted sum."""
    return 4 * n * d * d + 2 * n * n * d + LAYER_NORM * n * d


def sdca_operations(n: int, d: int, t: int) -> int:
    """Kernels, depthwise and pointwise convolution (Eq. 7-9)."""
    return n * d * (n + t) + n * d * t + n * n * d + LAYER_NORM * n * d


def dca_operations(n: int, d: int, t: int) -> int:
    """Kernels, full convolution."""
    return n * d * n * t + n * n * t * d + LAYER_NORM * n * d


def pdca_operations(n: int, d: int, t: int) -> int:
    """Kernels, pointwise convolution."""
    return n * d * n + n * n * d + LAYER_NORM * n * d


def ddca_operations(n: int, d: int, t: int) -> int:
    """Kernels, depthwise convolution."""
    return n * d * t + n * d * t + LAYER_NORM * n * d


AGGREGATION_FORMULAS: dict[str, Callable[[Sequence[int], int, int, int], int]] = {
    "ifa": ifa_operations,
    "cfa": cfa_operations,
}

ATTENTION_FORMULAS: dict[str, Callable[[int, int, int], int]] = {
    "mhca": mhca_operations,
    "sdca": sdca_operations,
    "dca": dca_operations,
    "pdca": pdca_operations,
    "ddca": ddca_operations,
}
"""Operations for n queries of d channels and t taps."""
