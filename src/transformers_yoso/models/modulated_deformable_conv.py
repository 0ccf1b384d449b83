"""Modulated deformable convolution (Deformable ConvNets v2, arXiv 1811.11168), computed as project, then sample.

Bilinear sampling is linear, so it commutes with the projection of each tap. This is the paper's own argument for
convolution-first aggregation (section 3.2, Observation I), applied to sampling: one 1x1 convolution gives every tap's
projection on the input grid, and an output pixel is a weighted sum of 4 corners x taps of its entries. There is no
im2col buffer, and any floating dtype works on any device, which torchvision's operator does not offer.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def linear_neighbours(positions: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Indices (int64) and weights of the two pixels around each position on one axis, both of shape `(..., 2)`.

    Pixels outside of `[0, length)` weigh 0 and have the index 0, also where the position is no finite number.
    """
    floor = positions.floor()
    high_weight = positions - floor
    neighbours = torch.stack((floor, floor + 1), dim=-1)
    weights = torch.stack((1 - high_weight, high_weight), dim=-1)
    inside = (neighbours >= 0) & (neighbours < length)
    return torch.where(inside, neighbours, 0.0).long(), torch.where(inside, weights, 0.0)


def bilinear_corners(positions: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Flat indices and weights of the four pixels around each position; pixels outside of the map weigh 0.

    Args:
        positions (`Tensor` of shape `(..., 2)`): (y, x) in pixels, 0 is the centre of the first pixel.
        height, width (`int`): Size of the map in pixels.

    Returns:
        `tuple[Tensor, Tensor]`: indices into the flattened map (int64) and weights, both of shape `(..., 4)`.
    """
    rows, row_weights = linear_neighbours(positions[..., 0], height)
    columns, column_weights = linear_neighbours(positions[..., 1], width)
    indices = rows.unsqueeze(-1) * width + columns.unsqueeze(-2)
    weights = row_weights.unsqueeze(-1) * column_weights.unsqueeze(-2)
    return indices.flatten(-2), weights.flatten(-2)


def sampling_positions(offsets: Tensor, kernel_size: int) -> Tensor:
    """Absolute sampling positions of a stride-1, 'same'-padded deformable convolution.

    Args:
        offsets (`Tensor` of shape `(B, 2 * kernel_size**2, H, W)`): (dy, dx) interleaved a tap, in pixels.
        kernel_size (`int`): Side of the square kernel.

    Returns:
        `Tensor`: (y, x) in pixels, shape `(B, H, W, kernel_size**2, 2)`.
    """
    batch_size, _, height, width = offsets.shape
    steps = {"device": offsets.device, "dtype": offsets.dtype}
    tap = torch.arange(kernel_size, **steps) - kernel_size // 2
    taps = torch.stack(torch.meshgrid(tap, tap, indexing="ij"), dim=-1).view(-1, 2)
    rows, columns = torch.arange(height, **steps), torch.arange(width, **steps)
    pixels = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1)
    offsets = offsets.permute(0, 2, 3, 1).reshape(batch_size, height, width, -1, 2)
    return pixels[:, :, None, :] + taps + offsets


def modulated_deform_conv2d(inputs: Tensor, offsets: Tensor, modulation: Tensor, weight: Tensor) -> Tensor:
    """Modulated deformable convolution with stride 1, 'same' padding, one group and no bias.

    Args:
        inputs (`Tensor` of shape `(B, C_in, H, W)`): Feature map.
        offsets (`Tensor` of shape `(B, 2 * k * k, H, W)`): (dy, dx) interleaved a tap, in pixels.
        modulation (`Tensor` of shape `(B, k * k, H, W)`): Weight of each tap, in [0, 1].
        weight (`Tensor` of shape `(C_out, C_in, k, k)`): Kernel.

    Returns:
        `Tensor`: shape `(B, C_out, H, W)`.
    """
    batch_size, _, height, width = inputs.shape
    out_channels, in_channels, kernel_size, _ = weight.shape
    num_taps = kernel_size**2

    tap_weights = weight.permute(2, 3, 0, 1).reshape(num_taps * out_channels, in_channels, 1, 1)
    projected = F.conv2d(inputs, tap_weights).permute(0, 2, 3, 1).reshape(-1, out_channels)

    with torch.autocast(device_type=inputs.device.type, enabled=False):
        positions_dtype = torch.promote_types(offsets.dtype, torch.float32)
        positions = sampling_positions(offsets.to(positions_dtype), kernel_size)
        indices, corner_weights = bilinear_corners(positions, height, width)
        corner_weights = corner_weights * modulation.permute(0, 2, 3, 1).unsqueeze(-1).to(positions_dtype)
        image = torch.arange(batch_size, device=inputs.device).view(-1, 1, 1, 1, 1)
        tap = torch.arange(num_taps, device=inputs.device).view(-1, 1)
        rows = (image * (height * width) + indices) * num_taps + tap
        sampled = F.embedding_bag(
            rows.view(batch_size * height * width, -1),
            projected,
            per_sample_weights=corner_weights.reshape(batch_size * height * width, -1).to(projected.dtype),
            mode="sum",
        )
    return sampled.view(batch_size, height, width, out_channels).permute(0, 3, 1, 2)


class ModulatedDeformableConv2d(nn.Module):
    """3x3 modulated deformable convolution whose offsets and modulation come from a plain 3x3 convolution.

    The offset convolution gives 3 k² channels in three chunks: the first two, concatenated, are the offsets in pixels
    (interleaved (dy, dx) a tap); the third, through a sigmoid, is the modulation.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3) -> None:
        super().__init__()
        padding = kernel_size // 2
        self.offset_conv = nn.Conv2d(in_channels, 3 * kernel_size**2, kernel_size, padding=padding)
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, kernel_size, kernel_size))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, features: Tensor) -> Tensor:
        """`(B, C_in, H, W)` -> `(B, C_out, H, W)`."""
        first, second, modulation = self.offset_conv(features).chunk(3, dim=1)
        offsets = torch.cat((first, second), dim=1)
        return modulated_deform_conv2d(features, offsets, modulation.sigmoid(), self.weight)
