"""Convolution of the inference form: folded norm, sum and activation in one pass over memory where the CPU can."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import BatchNormAct2d, FrozenBatchNormAct2d
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

BATCH_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm, BatchNormAct2d, FrozenBatchNorm2d, FrozenBatchNormAct2d)

ONEDNN_ACTIVATIONS: dict[type[nn.Module], tuple[str, list[float]]] = {
    nn.Identity: ("none", []),
    nn.ReLU: ("relu", []),
    nn.ReLU6: ("hardtanh", [0.0, 6.0]),
}
"""oneDNN's name and parameters of the activations that it applies while it writes a convolution's result."""

NOMINAL_SIZE = (16, 16)
"""Height and width of the map for which a weight is packed before the first input is seen."""


def batch_norm_affine(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Scale and shift, float64 `(C,)`, of a batch norm with fixed statistics."""
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    shift = -norm.running_mean.double() * scale
    return scale, shift if norm.bias is None else shift + norm.bias.double()


@torch.no_grad()
def fold_batch_norm(convolution: nn.Module, norm: nn.Module) -> None:
    """Makes `convolution`, in place, compute what `norm(convolution(x))` computes in evaluation. Folded in float64."""
    scale, shift = batch_norm_affine(norm)
    weight = convolution.weight
    axis = 1 if isinstance(convolution, nn.ConvTranspose2d) else 0
    shape = [1] * weight.dim()
    shape[axis] = -1
    bias = getattr(convolution, "bias", None)
    folded_bias = shift if bias is None else shift + bias.double() * scale
    convolution.weight = nn.Parameter((weight.double() * scale.view(shape)).to(weight.dtype))
    convolution.bias = nn.Parameter(folded_bias.to(weight.dtype))


def freeze(module: nn.Module) -> nn.Module:
    """Turns, in place, all parameters into buffers and all buffers into such that no state dict holds."""
    for part in module.modules():
        for name, parameter in list(part._parameters.items()):
            del part._parameters[name]
            part.register_buffer(name, None if parameter is None else parameter.detach(), persistent=False)
        part._non_persistent_buffers_set.update(part._buffers)
    return module


class InferenceConv2d(nn.Module):
    """`activation(convolution(x) + other)`, without gradients.

    Args:
        convolution (`nn.Conv2d` or `nn.ConvTranspose2d`): Zero-padded convolution.
        activation (`nn.Module`, *optional*): One of `ONEDNN_ACTIVATIONS`.
        channels_last (`bool`): Keep the weights as NHWC.
        onednn (`bool`): On a CPU, in float32 and bfloat16, let oneDNN add and activate while it writes the
            result, and keep the weights in oneDNN's layout too, or it would copy them into it at every call. Never so
            in a compiled or exported graph or under autocast.
    """

    def __init__(
        self,
        convolution: nn.Conv2d | nn.ConvTranspose2d,
        activation: nn.Module | None = None,
        channels_last: bool = True,
        onednn: bool = True,
    ) -> None:
        super().__init__()
        self.activation = nn.Identity() if activation is None else activation
        self.transposed = isinstance(convolution, nn.ConvTranspose2d)
        self.stride, self.padding, self.dilation = convolution.stride, convolution.padding, convolution.dilation
        self.output_padding, self.groups = getattr(convolution, "output_padding", (0, 0)), convolution.groups
        weight, bias = convolution.weight.detach(), convolution.bias
        memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.register_buffer("weight", weight.contiguous(memory_format=memory_format), persistent=False)
        self.register_buffer("bias", None if bias is None else bias.detach().clone(), persistent=False)
        self.onednn = onednn and onednn_computes(self.weight)
        self._packed_weight, self._packed_for = None, 0
        if self.onednn:
            self._pack_weight((1, convolution.in_channels, *NOMINAL_SIZE))

    def forward(self, features: Tensor, other: Tensor | None = None, overwrite: bool = False) -> Tensor:
        """
        Args:
            features (`Tensor` of shape `(B, C_in, H, W)`).
            other (`Tensor` of shape `(B, C_out, H', W')`, *optional*): Summand.
            overwrite (`bool`): Nobody reads `other` again, so the result may be written over it.

        Returns:
            `Tensor`: shape `(B, C_out, H', W')`.
        """
        in_one_pass = self.onednn and features.dtype == self.weight.dtype and not needs_plain_operators()
        if in_one_pass and (other is None or other.shape == self._result_shape(features)):
            return self._one_pass(features, other, overwrite)
        if self.transposed:
            result = F.conv_transpose2d(
                features, self.weight, self.bias, self.stride, self.padding, self.output_padding, self.groups
            )
        else:
            result = F.conv2d(features, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
        return self.activation(result if other is None else result + other)

    def _result_shape(self, features: Tensor) -> tuple[int, ...]:
        geometry = zip(
            features.shape[2:], self.weight.shape[2:], self.stride, self.padding, self.dilation, strict=True
        )
        sides = [(side + 2 * pad - gap * (taps - 1) - 1) // step + 1 for side, taps, step, pad, gap in geometry]
        return (len(features), len(self.weight), *sides)

    def _one_pass(self, features: Tensor, other: Tensor | None, overwrite: bool) -> Tensor:
        if features.numel() > self._packed_for:
            self._pack_weight(features.shape)
        geometry = (self.padding, self.stride, self.dilation, self.groups)
        activation, scalars = ONEDNN_ACTIVATIONS[type(self.activation)]
        if self.transposed:
            geometry = (self.padding, self.output_padding, *geometry[1:])
            return torch.ops.mkldnn._convolution_transpose_pointwise(
                features, self._packed_weight, self.bias, *geometry, activation, scalars, ""
            )
        if other is None:
            return torch.ops.mkldnn._convolution_pointwise(
                features, self._packed_weight, self.bias, *geometry, activation, scalars, ""
            )
        sum_and_activation = ("add", 1.0, None if activation == "none" else activation, scalars, "")
        if overwrite:
            return torch.ops.mkldnn._convolution_pointwise_.binary(
                other, features, self._packed_weight, self.bias, *geometry, *sum_and_activation
            )
        return torch.ops.mkldnn._convolution_pointwise.binary(
            features, other, self._packed_weight, self.bias, *geometry, *sum_and_activation
        )

    def _pack_weight(self, size: Sequence[int]) -> None:
        """Copies the weight into the layout that oneDNN chooses for an input of this size.

        For most other sizes it chooses the same; where not, it copies again at the call, and the result is right. So
        this follows the largest input seen.
        """
        self._packed_weight = None  # frees the memory of the last copy first
        geometry = (self.stride, self.dilation, self.groups, list(size))
        if self.transposed:
            self._packed_weight = torch.ops.mkldnn._reorder_convolution_transpose_weight(
                self.weight, self.padding, self.output_padding, *geometry
            )
        else:
            self._packed_weight = torch.ops.mkldnn._reorder_convolution_weight(self.weight, self.padding, *geometry)
        self._packed_for = math.prod(size)

    def __getstate__(self) -> dict[str, Any]:
        """Without the packed weight, whose layout can be neither copied nor saved."""
        return {**self.__dict__, "_packed_weight": None, "_packed_for": 0}


def onednn_computes(weight: Tensor) -> bool:
    """Whether torch can hand this weight's convolution to oneDNN."""
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if weight.dtype == torch.bfloat16:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return weight.dtype == torch.float32


def needs_plain_operators() -> bool:
    """Whether a graph is being made from the operators, or autocast must see them."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing() or torch.is_autocast_enabled("cpu")
