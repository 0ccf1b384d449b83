"""A memory layout, precision and form of the backbone in which training steps are fast; weights keep their names."""

from functools import partial

import torch
from torch import Tensor, nn

from ..models.backbone import backbone_features
from ..models.modeling_yoso import YosoPreTrainedModel

FROZEN_NORMS = ("FrozenBatchNorm2d", "FrozenBatchNormAct2d")


def prepare_for_speed(model: nn.Module, device: torch.device, is_sharded: bool = False) -> None:
    """
    Lays the weights out channels last, folds frozen norms, and mends CPU autocast of depthwise convolutions; in place.

    oneDNN's backward of depthwise convolutions is several times slower in bfloat16 than in float32 (seen with torch
    2.15 on Zen 4), and light backbones are made of them, so they stay in float32 there.

    Args:
        model: a YOSO model; of any other network no norms are folded.
        device: where it will be trained.
        is_sharded: whether FSDP2 will spread the weights; it takes contiguous ones only, as the modules hold them, so
            neither their layout nor the norms are changed.
    """
    if not is_sharded:
        model.to(memory_format=torch.channels_last)
        if isinstance(model, YosoPreTrainedModel):
            fold_frozen_norms(model.base_model.backbone)
    if device.type != "cpu":
        return
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.groups > 1 and module.groups == module.in_channels:
            module.forward = partial(_in_float32, module.forward)


@torch.no_grad()
def fold_frozen_norms(backbone: nn.Module) -> int:
    """
    Lets each convolution before a frozen batch norm scale its own weight, so that the norm only shifts; in place.

    scale * conv(x, w) = conv(x, scale * w), and the gradient of `w` stays what it was. This spares one pass over the
    map, forward and backward, and the memory of its input. Pairs are found by one forward pass of a small image.

    Returns:
        How many norms were folded.
    """
    sources: dict[int, tuple[nn.Conv2d, Tensor]] = {}
    pairs: list[tuple[nn.Conv2d, nn.Module]] = []

    def remember(module: nn.Conv2d, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        sources[id(output)] = (module, output)  # holds the output, so that no other tensor gets its id

    def find(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if id(inputs[0]) in sources:
            pairs.append((sources[id(inputs[0])][0], norm))

    hooks = []
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d) and module.bias is None:
            hooks.append(module.register_forward_hook(remember))
        elif type(module).__name__ in FROZEN_NORMS:
            hooks.append(module.register_forward_pre_hook(find))
    weight = next(backbone.parameters())
    backbone_features(backbone, torch.zeros(1, 3, 64, 64, device=weight.device, dtype=weight.dtype))
    for hook in hooks:
        hook.remove()
    for convolution, norm in pairs:
        convolution.__dict__["folded_norm"] = norm  # not registered: its tensors stay where they are saved
        convolution.__class__ = _derived_class(_ScaledWeight, convolution)
        norm.__class__ = _derived_class(_ShiftOnly, norm)
    return len(pairs)


def _derived_class(mixin: type, module: nn.Module) -> type:
    return type(mixin.__name__ + type(module).__name__, (mixin, type(module)), {})


def _norm_scale(norm: nn.Module) -> Tensor:
    return norm.weight * (norm.running_var + norm.eps).rsqrt()


class _ScaledWeight:
    """A convolution whose weight appears multiplied by the scale of the norm behind it."""

    @property
    def weight(self) -> Tensor:
        weight = self._parameters["weight"]
        return weight * _norm_scale(self.folded_norm).view(-1, 1, 1, 1).to(weight.dtype)


class _ShiftOnly:
    """A frozen norm behind a `_ScaledWeight` convolution: what is left of it is the shift, then its activation."""

    def forward(self, features: Tensor) -> Tensor:
        shift = self.bias - self.running_mean * _norm_scale(self)
        features = features.add_(shift.view(-1, 1, 1).to(features.dtype))
        return self.act(self.drop(features)) if hasattr(self, "act") else features


def _in_float32(convolution: nn.Module, features: Tensor) -> Tensor:
    with torch.autocast(device_type=features.device.type, enabled=False):
        return convolution(features.float())
