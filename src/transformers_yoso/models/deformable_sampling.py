"""Modulated deformable convolution of the inference form: as `modulated_deform_conv2d`, with fewer passes over memory."""

import importlib
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .inference_convolution import InferenceConv2d
from .modulated_deformable_conv import ModulatedDeformableConv2d


def axis_neighbours(positions: Tensor, length: int, modulation: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The two pixels around each position on one axis: indices (int32) and weights, both of shape `(..., 2)`.

    Weights are those of linear interpolation times the `modulation`. Pixels outside of `[0, length)` weigh 0 and have
    an index inside, also where the position is no finite number.
    """
    floor = positions.floor()
    high = positions - floor
    weights = torch.stack((1 - high, high), dim=-1)
    if modulation is not None:
        weights = weights * modulation.unsqueeze(-1)
    low_index = floor.int()
    indices = torch.stack((low_index, low_index + 1), dim=-1)
    inside = indices.clamp(0, length - 1)
    return inside, weights.masked_fill(indices != inside, 0.0)


def sampling_table(offsets: Tensor, modulation: Tensor) -> tuple[Tensor, Tensor]:
    """Where in the projected map each output pixel reads, and with which weights.

    Args:
        offsets (`Tensor` of shape `(B, H, W, taps, 2)`): (dy, dx) in pixels, of a square kernel's taps.
        modulation (`Tensor` of shape `(B, H, W, taps)`): Weight of each tap.

    Returns:
        int32 rows of the projected map seen as `(B * H * W * taps, C_out)`, and weights, of shape
        `(B * H * W, 4 * taps)`.
    """
    batch_size, height, width, num_taps, _ = offsets.shape
    kernel_size = round(num_taps**0.5)
    steps = {"device": offsets.device, "dtype": offsets.dtype}
    tap = torch.arange(kernel_size, **steps) - kernel_size // 2
    rows = torch.arange(height, **steps).view(height, 1, 1) + tap.repeat_interleave(kernel_size)
    columns = torch.arange(width, **steps).view(width, 1) + tap.repeat(kernel_size)
    y, y_weights = axis_neighbours(offsets[..., 0] + rows, height, modulation)
    x, x_weights = axis_neighbours(offsets[..., 1] + columns, width)
    integers = {"device": offsets.device, "dtype": torch.int32}
    image = torch.arange(batch_size, **integers).view(-1, 1, 1, 1, 1) * height
    y = (y + image) * (width * num_taps) + torch.arange(num_taps, **integers).view(num_taps, 1)
    indices = y.unsqueeze(-1) + (x * num_taps).unsqueeze(-2)
    weights = y_weights.unsqueeze(-1) * x_weights.unsqueeze(-2)
    return indices.view(-1, 4 * num_taps), weights.view(-1, 4 * num_taps)


def triton_sampler(weight: Tensor) -> Callable[[Tensor, Tensor, int], Tensor] | None:
    """The Triton kernel, if it can compute on the weight's device in its dtype."""
    if weight.device.type != "cuda" or weight.dtype == torch.float64:
        return None
    try:  # by name, so that `trust_remote_code` does not ask for Triton everywhere
        return importlib.import_module(".deformable_sampling_triton", __package__).sample_deformably
    except ImportError:
        return None


class InferenceDeformableConv2d(nn.Module):
    """[`ModulatedDeformableConv2d`] with the bias of a folded norm, without gradients.

    On a GPU the sampling is one Triton kernel where there is Triton, but in an exported graph.
    """

    def __init__(
        self, convolution: ModulatedDeformableConv2d, channels_last: bool = True, onednn: bool = True
    ) -> None:
        super().__init__()
        weight = convolution.weight.detach()
        out_channels, in_channels, self.kernel_size, _ = weight.shape
        self.num_taps = self.kernel_size**2
        projection = nn.Conv2d(in_channels, self.num_taps * out_channels, 1, bias=False, device="meta")
        projection.weight = nn.Parameter(weight.permute(2, 3, 0, 1).reshape(-1, in_channels, 1, 1))
        self.projection = InferenceConv2d(projection, None, channels_last, onednn)
        self.offset_conv = InferenceConv2d(convolution.offset_conv, None, channels_last, onednn)
        bias = getattr(convolution, "bias", None)
        self.register_buffer("bias", None if bias is None else bias.detach().clone(), persistent=False)
        self.sampler = triton_sampler(weight)

    def forward(self, features: Tensor) -> Tensor:
        """`(B, C_in, H, W)` -> `(B, C_out, H, W)`, laid out channels-last."""
        offsets = self.offset_conv(features).permute(0, 2, 3, 1).contiguous()
        projected = self.projection(features).permute(0, 2, 3, 1).contiguous()
        if self.sampler is not None and not torch.compiler.is_exporting():
            sampled = self.sampler(projected, offsets, self.kernel_size)
        else:
            sampled = self._sample(projected, offsets)
        if self.bias is not None:
            sampled = sampled + self.bias.to(sampled.dtype)
        return sampled.permute(0, 3, 1, 2)

    def _sample(self, projected: Tensor, offsets: Tensor) -> Tensor:
        """`sample_deformably` by torch's operators, see there."""
        with torch.autocast(device_type=projected.device.type, enabled=False):
            offsets = offsets.to(torch.promote_types(offsets.dtype, torch.float32))
            offsets, modulation = offsets.split((2 * self.num_taps, self.num_taps), dim=-1)
            indices, weights = sampling_table(offsets.unflatten(-1, (self.num_taps, 2)), modulation.sigmoid())
            table = projected.flatten(0, 2).unflatten(-1, (self.num_taps, -1)).flatten(0, 1)
            sampled = F.embedding_bag(indices, table, per_sample_weights=weights.to(table.dtype), mode="sum")
        return sampled.unflatten(0, projected.shape[:3])
