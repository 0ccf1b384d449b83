"""Forms of the modulated deformable convolution that ONNX has operators for; same arguments and result as ours."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import deform_conv2d

from ..models.modulated_deformable_conv import sampling_positions


def native_deform_conv2d(inputs: Tensor, offsets: Tensor, modulation: Tensor, weight: Tensor) -> Tensor:
    """Becomes one `DeformConv`, which onnxruntime has for CPUs."""
    return deform_conv2d(inputs, offsets, weight, padding=weight.shape[-1] // 2, mask=modulation)


def grid_sample_deform_conv2d(inputs: Tensor, offsets: Tensor, modulation: Tensor, weight: Tensor) -> Tensor:
    """Project, then sample, with one `GridSample` a tap, for providers without `DeformConv`."""
    height, width = inputs.shape[-2:]
    kernel_size = weight.shape[-1]
    positions = sampling_positions(offsets, kernel_size)
    # From pixels to [-1, 1] over the map, borders included: `align_corners=False`.
    x = (2 * positions[..., 1] + 1) / width - 1
    y = (2 * positions[..., 0] + 1) / height - 1
    grids = torch.stack((x, y), dim=-1)
    sampled = None
    for tap in range(kernel_size**2):
        projected = F.conv2d(inputs, weight[:, :, tap // kernel_size, tap % kernel_size, None, None])
        part = F.grid_sample(projected, grids[..., tap, :], align_corners=False) * modulation[:, tap : tap + 1]
        sampled = part if sampled is None else sampled + part
    return sampled


DEFORMABLE_CONVOLUTIONS = {"native": native_deform_conv2d, "grid_sample": grid_sample_deform_conv2d}
