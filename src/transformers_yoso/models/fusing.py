"""`fuse()` and `unfuse()`: the switch between the plain model, which trains and is saved, and its inference form."""

from collections.abc import Callable, Collection
from typing import Any

from torch import nn
from typing_extensions import Self

from .inference_form import TRANSFORMATIONS, InferenceForm


class FusingMixin:
    """For a model that is, or whose `base_model` is, a [`YosoModel`]."""

    @property
    def is_fused(self) -> bool:
        """Whether the model computes in its inference form."""
        return getattr(self.base_model, "inference_form", None) is not None

    @property
    def can_be_fused(self) -> bool:
        """Whether the weights are plain: not quantised, on one device, without adapters, and not offloaded."""
        devices = set((getattr(self, "hf_device_map", None) or {}).values())
        is_quantized = getattr(self, "is_quantized", False)
        return len(devices) <= 1 and not is_quantized and not getattr(self, "_hf_peft_config_loaded", False)

    def fuse(self, transformations: Collection[str] | None = None) -> Self:
        """Lets the model compute in its inference form, in place: the same outputs, faster and without gradients.

        The weights stay as they are: parameters, `state_dict` and `save_pretrained` are those of the plain model. What
        is derived from them follows `to`, `half`, `load_state_dict` and the like; after changing weights in another
        way, call `fuse` again. Hooks on inner modules do not run, and `feature_map` is `None` in the outputs. What is
        derived takes as much memory as the weights, on a CPU twice: once in oneDNN's layout.

        Args:
            transformations (`Collection[str]`, *optional*): Names among `TRANSFORMATIONS`; all if not given. Leaving
                some out shows what each gives.

        Raises:
            ValueError: in training mode, for an unknown name, or for weights that cannot be folded; see `can_be_fused`.
        """
        if self.training:
            raise ValueError("Only a model in evaluation mode can be fused: call `eval()` first.")
        if not self.can_be_fused:
            raise ValueError(
                "Weights that are quantised, spread over several devices or under adapters cannot be folded: merge the "
                "adapters, or load the model whole and in a floating dtype."
            )
        base = self.base_model
        names = TRANSFORMATIONS if transformations is None else transformations
        base.inference_form = InferenceForm(base.backbone, base.feature_pyramid_aggregator, base.decoder, names)
        return self

    def unfuse(self) -> Self:
        """Lets the model compute in its plain form again, in place."""
        self.base_model.inference_form = None
        return self

    def train(self, mode: bool = True) -> Self:
        """As in torch.

        Raises:
            ValueError: if a fused model is asked to train.
        """
        if mode and self.is_fused:
            raise ValueError("A fused model cannot train: call `unfuse()` first.")
        return super().train(mode)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        form = self._modules.get("inference_form")
        if form is None:
            return super()._apply(fn, recurse)
        self.inference_form = None
        super()._apply(fn, recurse)
        return self.fuse(form.transformations)


def fuse_loaded_weights(model: nn.Module, incompatible_keys: Any) -> None:
    """To be run after `load_state_dict`: a fused model's inference form follows the new weights."""
    if model.is_fused:
        model.fuse(model.inference_form.transformations)
