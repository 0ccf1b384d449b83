"""From model outputs to predictions, by subtask."""

from dataclasses import dataclass
from typing import Any

import numpy as np

SUBTASKS = ("panoptic", "instance", "semantic")


@dataclass(frozen=True)
class SegmentationOptions:
    """What to make of the model's outputs; `None` is the value saved with the checkpoint."""

    subtask: str = "panoptic"
    threshold: float | None = None
    mask_threshold: float | None = None
    overlap_mask_area_threshold: float | None = None

    def __post_init__(self) -> None:
        if self.subtask not in SUBTASKS:
            raise ValueError(f"`subtask` must be one of {SUBTASKS}, but is {self.subtask!r}.")
        for name in ("threshold", "mask_threshold", "overlap_mask_area_threshold"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"`{name}` must lie in [0, 1], but is {value}.")


def segment_outputs(
    image_processor: Any,
    outputs: Any,
    target_sizes: list[tuple[int, int]],
    options: SegmentationOptions,
    resized_sizes: list[tuple[int, int]],
) -> list[tuple[np.ndarray, list[dict[str, Any]]]]:
    """Per image the int32 map (H, W), 0 = void, and `segments_info`; semantic segments have `score` None.

    Sizes are (height, width) in pixels: of the photos, and of what the network saw of them.
    """
    sizes = {"target_sizes": target_sizes, "resized_sizes": resized_sizes}
    if options.subtask == "semantic":
        maps = image_processor.post_process_semantic_segmentation(outputs, **sizes)
        return [_semantic_segments(segmentation.numpy(force=True)) for segmentation in maps]
    thresholds = {"threshold": options.threshold, "mask_threshold": options.mask_threshold}
    if options.subtask == "panoptic":
        thresholds["overlap_mask_area_threshold"] = options.overlap_mask_area_threshold
    post_process = getattr(image_processor, f"post_process_{options.subtask}_segmentation")
    results = post_process(outputs, **sizes, **thresholds)
    return [
        (result["segmentation"].numpy(force=True).astype(np.int32, copy=False), result["segments_info"])
        for result in results
    ]


def _semantic_segments(labels: np.ndarray) -> tuple[np.ndarray, list[dict[str, Any]]]:
    present = np.flatnonzero(np.bincount(labels.ravel())).tolist()
    segments = [{"id": label + 1, "label_id": label, "was_fused": True, "score": None} for label in present]
    return labels.astype(np.int32) + 1, segments
