"""Times all variants and the steps around them at one input size."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..models.configuration_yoso import YosoConfig
from ..models.image_processing_yoso import YosoImageProcessor
from ..models.modeling_outputs_yoso import YosoForUniversalSegmentationOutput
from ..visualization import draw_panoptic
from .case import Case
from .random_model import blob_logits
from .timing import time_interleaved
from .variants import Variant

logger = logging.getLogger(__name__)

SHARED = "shared"
"""Name under which the steps around the network stand, which all variants have in common."""

FORWARD, POST_PROCESSING = "forward", "post-processing"
END_TO_END, FROM_IMAGE = "end to end", "from decoded image"
STAGES = ("backbone", "neck", "decoder")

GPU_REPEATS = 10
"""Runs in a row a measurement on a GPU, which works through them without waiting for the host in between."""

Key = tuple[str, str]


@torch.inference_mode()
def measure_size(
    case: Case,
    variants: Mapping[str, Variant],
    config: YosoConfig,
    image_processor: YosoImageProcessor,
    device: torch.device,
    rounds: int,
) -> dict[Key, list[float]]:
    """Milliseconds of each (variant, part) round by round, interleaved.

    Parts of a variant: backbone, neck, decoder, forward, post-processing (of logits of which 20 of 100 queries are
    kept), end to end (tensor -> map of the target size on the host) and, on a GPU, from decoded image, as far as it
    has them.
    """
    original = case.original()
    pixel_values = case.preprocess(original, image_processor)
    class_logits, mask_logits = blob_logits(config.num_queries, config.num_labels, grid_size(case))
    tasks = dict(shared_tasks(case, original, config, image_processor, device, (class_logits, mask_logits)))
    for name, variant in variants.items():
        logger.info("preparing %s at %s", name, case.name)
        inputs = variant.prepare_input(pixel_values)
        tasks |= {(name, part): task for part, task in stage_tasks(variant, inputs).items()}
        tasks[name, FORWARD] = lambda variant=variant, inputs=inputs: variant.forward(inputs)
        if variant.has_post_processing:
            tasks[name, POST_PROCESSING] = post_processing_task(variant, case, class_logits, mask_logits)
        if variant.is_panoptic:
            tasks[name, END_TO_END] = lambda variant=variant, inputs=inputs: id_map(variant, inputs, case)
            if device.type == "cuda":
                tasks[name, FROM_IMAGE] = from_image_task(variant, case, original, image_processor, device)
    repeats = GPU_REPEATS if device.type == "cuda" else 1
    return time_interleaved(tasks, device, rounds, repeats=repeats, description=case.name)


def grid_size(case: Case) -> tuple[int, int]:
    """Height and width of the mask logits."""
    return case.input_size[0] // 4, case.input_size[1] // 4


def shared_tasks(
    case: Case,
    original: Tensor,
    config: YosoConfig,
    image_processor: YosoImageProcessor,
    device: torch.device,
    logits: tuple[Tensor, Tensor],
) -> dict[Key, Callable[[], Any]]:
    """Decoding, pre-processing and drawing."""
    segments = draw_case(case, image_processor, logits)
    photo = original.permute(1, 2, 0).numpy()
    return {
        (SHARED, "decode"): case.decode,
        (SHARED, "pre-processing"): lambda: case.preprocess(original, image_processor, device),
        (SHARED, "drawing"): lambda: draw_panoptic(photo, *segments, config.id2label),
    }


def draw_case(
    case: Case, image_processor: YosoImageProcessor, logits: tuple[Tensor, Tensor]
) -> tuple[Tensor, list[dict[str, Any]]]:
    """The panoptic map that is drawn."""
    outputs = YosoForUniversalSegmentationOutput(class_queries_logits=logits[0], masks_queries_logits=logits[1])
    (result,) = image_processor.post_process_panoptic_segmentation(
        outputs, target_sizes=[case.target_size], resized_sizes=[case.input_size]
    )
    return result["segmentation"], result["segments_info"]


def stage_tasks(variant: Variant, inputs: Tensor) -> dict[str, Callable[[], Any]]:
    """Each stage on the outputs of the one before, kept from one run."""
    tasks: dict[str, Callable[[], Any]] = {}
    value: Any = inputs
    for part, stage in variant.stages().items():
        tasks[part] = lambda stage=stage, value=value: stage(value)
        value = stage(value)
    return tasks


def post_processing_task(variant: Variant, case: Case, class_logits: Tensor, mask_logits: Tensor) -> Callable[[], Any]:
    """Post-processing of the same logits for every variant, in its dtype, up to the map on the host."""
    place = {"device": variant.settings.device, "dtype": variant.settings.dtype}
    logits = class_logits.to(**place), mask_logits.to(**place)
    return lambda: variant.post_process(*logits, case.input_size, case.target_size)["segmentation"].cpu()


def from_image_task(
    variant: Variant, case: Case, original: Tensor, image_processor: YosoImageProcessor, device: torch.device
) -> Callable[[], Any]:
    """Decoded uint8 photo on the host -> map on the host."""

    def task() -> Tensor:
        pixel_values = case.preprocess(original, image_processor, device)
        return id_map(variant, variant.prepare_input(pixel_values), case)

    return task


def id_map(variant: Variant, inputs: Tensor, case: Case) -> Tensor:
    """Input of `forward` -> id map of the target size on the host."""
    return variant.end_to_end(inputs, case.input_size, case.target_size)["segmentation"].cpu()
