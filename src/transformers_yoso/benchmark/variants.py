"""The forms of our model that are measured. All have one interface, so that nothing is timed differently."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..models.backbone import backbone_features
from ..models.image_processing_yoso import YosoImageProcessor
from ..models.inference_decoder import location_features
from ..models.inference_form import TRANSFORMATIONS
from ..models.modeling_outputs_yoso import YosoForUniversalSegmentationOutput
from ..models.modeling_yoso import YosoForUniversalSegmentation
from .case import Size
from .literal import LiteralYoso
from .literal_post_processing import literal_panoptic_segmentation


class UnavailableError(RuntimeError):
    """A variant cannot run here; the message says why and stands in the report."""


@dataclass(frozen=True)
class Settings:
    """Where and how a variant computes.

    Attributes:
        device: where.
        dtype: of weights and activations.
        compiled: whether `torch.compile` makes its code; on a GPU with CUDA graphs.
    """

    device: torch.device
    dtype: torch.dtype = torch.float32
    compiled: bool = False

    def place(self, module: nn.Module) -> nn.Module:
        """The module in evaluation mode, on the device, in the dtype."""
        return module.eval().to(self.device, self.dtype)

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, compiled if the settings say so."""
        if not self.compiled:
            return function
        if self.device.type != "cuda":
            return torch.compile(function, dynamic=False)
        compiled = torch.compile(function, dynamic=False, mode="reduce-overhead")

        def run(*args: Any) -> Any:
            torch.compiler.cudagraph_mark_step_begin()
            return compiled(*args)

        return run


class Variant:
    """One way to compute. Subclasses set `forward` and say what else they can do.

    Args:
        settings: where and how.
    """

    input_size: Size | None = None
    """Height and width in pixels of the one input that this variant takes, or `None` for any."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def prepare_input(self, pixel_values: Tensor) -> Tensor:
        """Normalised float32 `(1, 3, H, W)` on the CPU -> the input of `forward`."""
        if self.input_size is not None:
            pixel_values = nn.functional.interpolate(pixel_values, size=self.input_size, mode="bilinear")
        return pixel_values.to(self.settings.device, self.settings.dtype)

    def forward(self, pixel_values: Tensor) -> Any:
        """The network alone."""
        raise NotImplementedError

    def stages(self) -> dict[str, Callable[[Any], Any]]:
        """`forward` in parts, each taking what the one before gave; empty if it only runs as a whole."""
        return {}

    def post_process(
        self, class_logits: Tensor, mask_logits: Tensor, image_size: Size, target_size: Size
    ) -> dict[str, Any]:
        """Logits of one image, `(1, N, C + 1)` and `(1, N, h, w)` -> panoptic map; not every variant has it."""
        raise NotImplementedError

    def end_to_end(self, pixel_values: Tensor, image_size: Size, target_size: Size) -> dict[str, Any]:
        """Input of `forward` with the photo in its first `image_size` pixels -> panoptic map of `target_size`."""
        outputs = self.forward(pixel_values)
        return self.post_process(outputs.class_queries_logits, outputs.masks_queries_logits, image_size, target_size)

    @property
    def has_post_processing(self) -> bool:
        """Whether `post_process` can be measured on its own."""
        return type(self).post_process is not Variant.post_process

    @property
    def is_panoptic(self) -> bool:
        """Whether it gives panoptic maps, by `end_to_end`."""
        return self.has_post_processing or type(self).end_to_end is not Variant.end_to_end


class LiteralVariant(Variant):
    """The released code, forward and post-processing."""

    def __init__(
        self, model: YosoForUniversalSegmentation, image_processor: YosoImageProcessor, settings: Settings
    ) -> None:
        super().__init__(settings)
        self.model = settings.place(LiteralYoso(model))
        self.image_processor = image_processor
        self.run = settings.compile(self.model)

    def forward(self, pixel_values: Tensor) -> YosoForUniversalSegmentationOutput:
        return self.run(pixel_values)

    def stages(self) -> dict[str, Callable[[Any], Any]]:
        return {
            "backbone": lambda pixel_values: backbone_features(self.model.backbone, pixel_values),
            "neck": self.model.neck,
            "decoder": self.model.decoder,
        }

    def post_process(
        self, class_logits: Tensor, mask_logits: Tensor, image_size: Size, target_size: Size
    ) -> dict[str, Any]:
        return literal_panoptic_segmentation(
            class_logits[0].float(),
            mask_logits[0].float(),
            image_size,
            target_size,
            threshold=self.image_processor.threshold,
            overlap_mask_area_threshold=self.image_processor.overlap_mask_area_threshold,
            label_ids_to_fuse=set(self.image_processor.label_ids_to_fuse),
        )


class PlainVariant(Variant):
    """Our model as `from_pretrained` gives it, with our post-processing."""

    def __init__(
        self, model: YosoForUniversalSegmentation, image_processor: YosoImageProcessor, settings: Settings
    ) -> None:
        super().__init__(settings)
        self.model = self.build(copy.deepcopy(model))
        self.image_processor = image_processor
        self.run = settings.compile(self.model)

    def build(self, model: YosoForUniversalSegmentation) -> YosoForUniversalSegmentation:
        """The measured form of a plain model."""
        return self.settings.place(model)

    def forward(self, pixel_values: Tensor) -> YosoForUniversalSegmentationOutput:
        return self.run(pixel_values)

    def stages(self) -> dict[str, Callable[[Any], Any]]:
        network = self.model.model

        def decode(features: Any) -> tuple[Tensor, Tensor]:
            decoded = network.decoder(features, every_stage=False)
            return self.model.class_branches[-1](decoded.kernels[-1]), decoded.mask_logits[-1]

        return {
            "backbone": lambda pixel_values: backbone_features(network.backbone, pixel_values),
            "neck": network.feature_pyramid_aggregator,
            "decoder": decode,
        }

    def post_process(
        self, class_logits: Tensor, mask_logits: Tensor, image_size: Size, target_size: Size
    ) -> dict[str, Any]:
        outputs = YosoForUniversalSegmentationOutput(
            class_queries_logits=class_logits, masks_queries_logits=mask_logits
        )
        (result,) = self.image_processor.post_process_panoptic_segmentation(
            outputs, target_sizes=[target_size], resized_sizes=[image_size]
        )
        return result


class FusedVariant(PlainVariant):
    """The inference form, `model.fuse()`.

    Args:
        without: a transformation to leave out, for ablations.
    """

    def __init__(
        self,
        model: YosoForUniversalSegmentation,
        image_processor: YosoImageProcessor,
        settings: Settings,
        without: str | None = None,
    ) -> None:
        self.without = without
        super().__init__(model, image_processor, settings)

    def build(self, model: YosoForUniversalSegmentation) -> YosoForUniversalSegmentation:
        transformations = set(TRANSFORMATIONS) - {self.without}
        return self.settings.place(model).fuse(transformations)

    def stages(self) -> dict[str, Callable[[Any], Any]]:
        network, form = self.model.model, self.model.model.inference_form

        def backbone(pixel_values: Tensor) -> list[Tensor]:
            return form.features(network.backbone, pixel_values.contiguous(memory_format=torch.channels_last))

        def decode(aggregated: Tensor) -> tuple[Tensor, Tensor]:
            decoded = form.decoder(network.decoder, location_features(aggregated), every_stage=False)
            return self.model.class_branches[-1](decoded.kernels[-1]), decoded.mask_logits[-1]

        # The neck empties the list that it is given, to free the features early.
        return {"backbone": backbone, "neck": lambda features: form.neck(list(features)), "decoder": decode}


YOSO_VARIANTS: dict[str, type[Variant]] = {
    "literal": LiteralVariant,
    "plain": PlainVariant,
    "fused": FusedVariant,
}
