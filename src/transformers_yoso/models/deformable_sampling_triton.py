"""Deformable sampling as one Triton kernel: positions, weights and the gather in one pass, for GPUs.

A program makes a few output pixels times a block of channels. It computes its pixels' sampling positions from the
offsets on the fly, so that no table of indices and weights is written or read.
"""

import triton
import triton.language as tl
from torch import Tensor

PIXELS_PER_PROGRAM = 8


@triton.jit
def _sampling_kernel(
    projected,
    offsets,
    output,
    height,
    width,
    num_pixels,
    channels: tl.constexpr,
    kernel_size: tl.constexpr,
    pixel_block: tl.constexpr,
    channel_block: tl.constexpr,
):
    """`projected` (P, taps, C), `offsets` (P, 3 taps): (dy, dx) a tap, then modulation logits; `output` (P, C)."""
    taps: tl.constexpr = kernel_size * kernel_size
    pixel = tl.program_id(0) * pixel_block + tl.arange(0, pixel_block)
    channel = tl.program_id(1) * channel_block + tl.arange(0, channel_block)
    in_range = pixel < num_pixels
    column = pixel % width
    row = (pixel // width) % height
    image_start = pixel - row * width - column
    is_channel = channel < channels
    total = tl.zeros((pixel_block, channel_block), dtype=tl.float32)
    for tap in range(taps):
        entry = offsets + pixel * (3 * taps)
        y = (
            tl.load(entry + 2 * tap, mask=in_range, other=0.0).to(tl.float32)
            + row
            + tap // kernel_size
            - kernel_size // 2
        )
        x = tl.load(entry + 2 * tap + 1, mask=in_range, other=0.0).to(tl.float32)
        x = x + column + tap % kernel_size - kernel_size // 2
        logit = tl.load(entry + 2 * taps + tap, mask=in_range, other=0.0).to(tl.float32)
        modulation = 1.0 / (1.0 + tl.exp(-logit))
        low_y, low_x = tl.floor(y), tl.floor(x)
        for corner in tl.static_range(4):
            corner_y, corner_x = low_y + corner // 2, low_x + corner % 2
            weight = modulation * (1.0 - tl.abs(y - corner_y)) * (1.0 - tl.abs(x - corner_x))
            # Compared as floats, so that no far or undefined position becomes an index.
            inside = in_range & (corner_y >= 0) & (corner_y < height) & (corner_x >= 0) & (corner_x < width)
            source = image_start + tl.where(inside, corner_y, 0.0).to(tl.int32) * width
            source += tl.where(inside, corner_x, 0.0).to(tl.int32)
            address = projected + ((source * taps + tap) * channels)[:, None] + channel[None, :]
            values = tl.load(address, mask=inside[:, None] & is_channel[None, :], other=0.0).to(tl.float32)
            total += tl.where(inside, weight, 0.0)[:, None] * values
    address = output + (pixel * channels)[:, None] + channel[None, :]
    tl.store(address, total.to(output.dtype.element_ty), mask=in_range[:, None] & is_channel[None, :])


def sample_deformably(projected: Tensor, offsets: Tensor, kernel_size: int) -> Tensor:
    """
    Args:
        projected (`Tensor` of shape `(B, H, W, taps * C)`): Each tap's projection of each pixel, contiguous.
        offsets (`Tensor` of shape `(B, H, W, 3 * taps)`): (dy, dx) a tap in pixels, then each tap's modulation before
            the sigmoid, contiguous.
        kernel_size (`int`): Square root of the number of taps.

    Returns:
        `Tensor`: shape `(B, H, W, C)`, dtype of `projected`; sums are taken in float32.
    """
    batch_size, height, width, depth = projected.shape
    channels = depth // kernel_size**2
    num_pixels = batch_size * height * width
    output = projected.new_empty(batch_size, height, width, channels)
    channel_block = min(128, triton.next_power_of_2(channels))
    grid = (triton.cdiv(num_pixels, PIXELS_PER_PROGRAM), triton.cdiv(channels, channel_block))
    _sampling_kernel[grid](
        projected,
        offsets,
        output,
        height,
        width,
        num_pixels,
        channels=channels,
        kernel_size=kernel_size,
        pixel_block=PIXELS_PER_PROGRAM,
        channel_block=channel_block,
    )
    return output
