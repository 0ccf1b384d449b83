"""Why true segments are missed and predicted ones are wrong, from the pixels that they share."""

import numpy as np

from ..metrics import SegmentOverlap

MATCHED = "matched"
WRONG_CLASS = "wrong class"
MERGED = "merged with a neighbour"
SUPPRESSED = "found but suppressed"
POOR_OUTLINE = "poor outline"
NOT_FOUND = "not found"
DUPLICATE = "duplicate"
NOTHING_THERE = "nothing there"

MISS_CAUSES = (WRONG_CLASS, MERGED, SUPPRESSED, POOR_OUTLINE, NOT_FOUND)
"""Causes of a missed true segment, in the order in which they are tried.

- wrong class: a predicted segment of another class has IoU above 0.5;
- merged with a neighbour: one predicted segment of its class covers more than half of it and of another true segment
  of that class;
- found but suppressed: a query of its class has IoU above 0.5, but lies under the threshold or lost its pixels;
- poor outline: a predicted segment of its class has IoU of at least 0.1;
- not found: none of these.
"""

FALSE_CAUSES = (WRONG_CLASS, MERGED, DUPLICATE, POOR_OUTLINE, NOTHING_THERE)
"""Causes of a false predicted segment, in the order in which they are tried.

- wrong class: a true segment of another class has IoU above 0.5;
- merged with a neighbour: covers more than half of several true segments of its class;
- duplicate: more than half of it lies on a true segment that another prediction matches;
- poor outline: a true segment of its class has IoU of at least 0.1;
- nothing there: none of these.
"""

LEAST_IOU = 0.1


def miss_causes(overlap: SegmentOverlap, best_query_iou: np.ndarray) -> list[str | None]:
    """
    Cause per true segment, one of `MISS_CAUSES`, `MATCHED`, or None for crowd.

    Args:
        overlap: of the panoptic prediction.
        best_query_iou: float `(targets,)`, largest IoU with any query's whole mask under the true class.
    """
    iou, same_label = overlap.iou(), _same_label(overlap)
    merging = _covers_half(overlap) & same_label
    merging &= merging.sum(1, keepdims=True) > 1
    tests = {
        WRONG_CLASS: ((iou > 0.5) & ~same_label).any(0),
        MERGED: merging.any(0),
        SUPPRESSED: best_query_iou > 0.5,
        POOR_OUTLINE: ((iou >= LEAST_IOU) & same_label).any(0),
        NOT_FOUND: np.ones(len(overlap.target_labels), dtype=bool),
    }
    matched = overlap.matches().any(0)
    return [
        None if overlap.target_is_crowd[k] else MATCHED if matched[k] else _first(tests, k)
        for k in range(len(overlap.target_labels))
    ]


def false_causes(overlap: SegmentOverlap) -> list[str | None]:
    """Cause per predicted segment, one of `FALSE_CAUSES`, `MATCHED`, or None if void or crowd excuse it."""
    iou, same_label, matches = overlap.iou(), _same_label(overlap), overlap.matches()
    inside = overlap.pixels[:-1, :-1] > 0.5 * overlap.prediction_areas[:, None]
    tests = {
        WRONG_CLASS: ((iou > 0.5) & ~same_label).any(1),
        MERGED: (_covers_half(overlap) & same_label).sum(1) > 1,
        DUPLICATE: (inside & same_label & matches.any(0)[None]).any(1),
        POOR_OUTLINE: ((iou >= LEAST_IOU) & same_label).any(1),
        NOTHING_THERE: np.ones(len(overlap.prediction_labels), dtype=bool),
    }
    matched, ignored = matches.any(1), overlap.ignored_predictions()
    return [
        MATCHED if matched[k] else None if ignored[k] else _first(tests, k)
        for k in range(len(overlap.prediction_labels))
    ]


def best_query_iou(
    masks: np.ndarray, labels: np.ndarray, target_map: np.ndarray, target_labels: np.ndarray
) -> np.ndarray:
    """
    Largest IoU of each true segment with a query's whole mask under its class; void pixels do not count.

    Args:
        masks: bool `(instances, height, width)`, which may overlap.
        labels: label id per instance.
        target_map: integer `(height, width)`; value `k` in `[0, targets)` is segment `k`, anything else is void.
        target_labels: label id per segment.

    Returns:
        float `(targets,)`.
    """
    num_targets = len(target_labels)
    is_segment = (target_map >= 0) & (target_map < num_targets)
    areas = np.bincount(target_map[is_segment], minlength=num_targets)
    best = np.zeros(num_targets)
    for mask, label in zip(masks, labels, strict=True):
        shared = np.bincount(target_map[mask & is_segment], minlength=num_targets)
        iou = shared / np.maximum(shared.sum() + areas - shared, 1)
        best = np.where(target_labels == label, np.maximum(best, iou), best)
    return best


def _same_label(overlap: SegmentOverlap) -> np.ndarray:
    return overlap.prediction_labels[:, None] == overlap.target_labels[None]


def _covers_half(overlap: SegmentOverlap) -> np.ndarray:
    """Bool `(predictions, targets)`: the prediction covers more than half of the target, which is no crowd."""
    covers = overlap.pixels[:-1, :-1] > 0.5 * overlap.target_areas[None]
    return covers & ~overlap.target_is_crowd[None]


def _first(tests: dict[str, np.ndarray], k: int) -> str:
    return next(cause for cause, holds in tests.items() if holds[k])
