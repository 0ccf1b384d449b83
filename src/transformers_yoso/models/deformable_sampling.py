"""Modulated deformable convolution of the inference form: as `modulated_deform_conv2d`, with fewer passes over memory."""

import copy
import importlib
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .inference_convolution import InferenceConv2d
from .modulated_deformable_conv import ModulatedDeformableConv2d

VECTOR_CHANNELS = 16
"""Float32 numbers in a register of AVX-512: with 27 outputs the offset convolution takes longer than with 32."""

CPU_PARTS = 2
"""Parts of the output channels that are computed one after the other: the projected map is the largest of all maps."""


def axis_neighbours(positions: Tensor, length: int, modulation: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The two pixels around each position `(..., taps)` on one axis: indices (int32) and weights, `(..., 2, taps)`.

    Weights are those of linear interpolation times the `modulation`. Pixels outside of `[0, length)` weigh 0 and have
    an index inside, also where the position is no finite number.
    """
    floor = positions.floor()
    high = positions - floor
    weights = torch.stack((1 - high, high), dim=-2)
    if modulation is not None:
        weights = weights * modulation.unsqueeze(-2)
    low_index = floor.int()
    indices = torch.stack((low_index, low_index + 1), dim=-2)
    inside = indices.clamp(0, length - 1)
    return inside, weights.masked_fill(indices != inside, 0.0)


def sampling_table(offsets: Tensor, modulation: Tensor) -> tuple[Tensor, Tensor]:
    """Where in the projected map each output pixel reads, and with which weights.

    Args:
        offsets (`Tensor` of shape `(B, H, W, taps, 2)`): (dy, dx) in pixels, of a square kernel's taps.
        modulation (`Tensor` of shape `(B, H, W, taps)`): Weight of each tap.

    Returns:
        int32 rows of the projected map seen as `(B * H * W * taps, C_out)`, and weights, of shape
        `(B * H * W, 4 * taps)`. The taps are the innermost axis, along which the CPU computes several at once.
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
    y = (y + image) * (width * num_taps) + torch.arange(num_taps, **integers)
    indices = y.unsqueeze(-2) + (x * num_taps).unsqueeze(-3)
    weights = y_weights.unsqueeze(-2) * x_weights.unsqueeze(-3)
    return indices.view(-1, 4 * num_taps), weights.view(-1, 4 * num_taps)


def triton_sampler(weight: Tensor) -> Callable[[Tensor, Tensor, int], Tensor] | None:
    """The Triton kernel, if it can compute on the weight's device in its dtype."""
    if weight.device.type != "cuda" or weight.dtype == torch.float64:
        return None
    try:  # by name, so that `trust_remote_code` does not ask for Triton everywhere
        return importlib.import_module(".deformable_sampling_triton", __package__).sample_deformably
    except ImportError:
        return None


def tap_projection(weight: Tensor) -> nn.Conv2d:
    """The 1x1 convolution by which a kernel's `(C_out, C_in, k, k)` taps give `(k * k * C_out)` outputs, tap by tap."""
    out_channels, in_channels, kernel_size, _ = weight.shape
    projection = nn.Conv2d(in_channels, kernel_size**2 * out_channels, 1, bias=False, device="meta")
    projection.weight = nn.Parameter(weight.permute(2, 3, 0, 1).reshape(-1, in_channels, 1, 1))
    return projection


def padded_outputs(convolution: nn.Conv2d) -> nn.Conv2d:
    """The convolution with further outputs, all 0, up to a multiple of `VECTOR_CHANNELS`."""
    missing = -convolution.out_channels % VECTOR_CHANNELS
    padded = copy.deepcopy(convolution)
    padded.weight = nn.Parameter(F.pad(convolution.weight.detach(), (0, 0, 0, 0, 0, 0, 0, missing)))
    padded.bias = nn.Parameter(F.pad(convolution.bias.detach(), (0, missing)))
    padded.out_channels += missing
    return padded


class InferenceDeformableConv2d(nn.Module):
    """[`ModulatedDeformableConv2d`] with the bias of a folded norm, without gradients.

    On a GPU the sampling is one Triton kernel where there is Triton, but in an exported graph.
    """

    def __init__(
        self, convolution: ModulatedDeformableConv2d, channels_last: bool = True, onednn: bool = True
    ) -> None:
        super().__init__()
        weight = convolution.weight.detach()
        self.kernel_size = weight.shape[-1]
        self.num_taps = self.kernel_size**2
        self.sampler = triton_sampler(weight)
        parts = [weight] if self.sampler is not None else weight.chunk(CPU_PARTS)
        self.projections = nn.ModuleList(
            InferenceConv2d(tap_projection(part), None, channels_last, onednn) for part in parts
        )
        self.offset_conv = InferenceConv2d(padded_outputs(convolution.offset_conv), None, channels_last, onednn)
        bias = getattr(convolution, "bias", None)
        self.register_buffer("bias", None if bias is None else bias.detach().clone(), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """`(B, C_in, H, W)` -> `(B, C_out, H, W)`, laid out channels-last."""
        offsets = self.offset_conv(features)[:, : 3 * self.num_taps].permute(0, 2, 3, 1).contiguous()
        if self.sampler is not None and not torch.compiler.is_exporting():
            projected = self.projections[0](features).permute(0, 2, 3, 1).contiguous()
            sampled = self.sampler(projected, offsets, self.kernel_size)
        else:
            sampled = self._sample(features, offsets)
        if self.bias is not None:
            sampled = sampled.add_(self.bias.to(sampled.dtype))
        return sampled.permute(0, 3, 1, 2)

    def _sample(self, features: Tensor, offsets: Tensor) -> Tensor:
        """`sample_deformably` by torch's operators, see there, after the projection."""
        with torch.autocast(device_type=features.device.type, enabled=False):
            offsets = offsets.to(torch.promote_types(offsets.dtype, torch.float32))
            offsets, modulation = offsets.split((2 * self.num_taps, self.num_taps), dim=-1)
            indices, weights = sampling_table(offsets.unflatten(-1, (self.num_taps, 2)), modulation.sigmoid())
        parts = [self._sum_of_taps(projection(features), indices, weights) for projection in self.projections]
        sampled = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
        return sampled.unflatten(0, (len(features), *features.shape[-2:]))

    def _sum_of_taps(self, projected: Tensor, indices: Tensor, weights: Tensor) -> Tensor:
        """A part's `(B, taps * C, H, W)` and [`sampling_table`] -> `(B * H * W, C)`."""
        table = projected.permute(0, 2, 3, 1).reshape(-1, projected.shape[1] // self.num_taps)
        return F.embedding_bag(indices, table, per_sample_weights=weights.to(table.dtype), mode="sum")
