"""Pixels that predicted and true segments of one image share, and what follows from them for panoptic quality."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .reference import PanopticReference, checked_labels, reference_arrays

VOID_IDS = (-1, 0)
MATCH_IOU = 0.5
"""Segments match above this IoU; on disjoint segments that makes the pairs one to one."""


@dataclass(frozen=True)
class SegmentOverlap:
    """
    Attributes:
        pixels: int64 `(predictions + 1, targets + 1)`, pixels shared; the last row and column are void.
        prediction_labels: int64 `(predictions,)`.
        target_labels: int64 `(targets,)`.
        target_is_crowd: bool `(targets,)`.
    """

    pixels: np.ndarray
    prediction_labels: np.ndarray
    target_labels: np.ndarray
    target_is_crowd: np.ndarray

    @classmethod
    def count(cls, prediction: Mapping[str, Any], reference: PanopticReference, num_labels: int) -> "SegmentOverlap":
        """
        Args:
            prediction: `segmentation`, integer `(height, width)`, and `segments_info`, dicts with `id` and `label_id`,
                as `post_process_panoptic_segmentation` returns them; ids 0 and -1 are void unless listed.
            reference: ground truth of the image.
            num_labels: number of classes.

        Raises:
            ValueError: sizes differ, predicted ids are doubled, unlisted or without a pixel, or a label is unknown.
        """
        segmentation = np.asarray(prediction["segmentation"])
        columns, target_labels, is_crowd = reference_arrays(reference, num_labels, segmentation.shape)
        segments = prediction["segments_info"]
        labels = checked_labels([segment["label_id"] for segment in segments], num_labels)
        rows = _rows_of_ids(segmentation, [segment["id"] for segment in segments])
        shape = (len(labels) + 1, len(target_labels) + 1)
        pixels = np.bincount((rows * shape[1] + columns).ravel(), minlength=shape[0] * shape[1]).reshape(shape)
        return cls(pixels, labels, target_labels, is_crowd)

    @property
    def prediction_areas(self) -> np.ndarray:
        """Pixels of each prediction, `(predictions,)`."""
        return self.pixels[:-1].sum(1)

    @property
    def target_areas(self) -> np.ndarray:
        """Pixels of each target, `(targets,)`."""
        return self.pixels[:, :-1].sum(0)

    def iou(self) -> np.ndarray:
        """IoU `(predictions, targets)` regardless of class; a prediction's pixels on void are not in the union."""
        shared = self.pixels[:-1, :-1]
        on_void = self.pixels[:-1, -1:]
        unions = self.prediction_areas[:, None] + self.target_areas[None] - shared - on_void
        return shared / np.maximum(unions, 1)

    def matches(self) -> np.ndarray:
        """Bool `(predictions, targets)`: the true positives. Crowd never matches."""
        same_label = self.prediction_labels[:, None] == self.target_labels[None]
        return (self.iou() > MATCH_IOU) & same_label & ~self.target_is_crowd[None]

    def ignored_predictions(self) -> np.ndarray:
        """
        Bool `(predictions,)`: more than half of the pixels on void or on the crowd region of the class.

        Of several crowd regions of a class in one image only the last counts, as in the reference evaluation.
        """
        excused = self.pixels[:-1, -1].copy()
        last_crowd_of_label = {int(self.target_labels[k]): k for k in np.flatnonzero(self.target_is_crowd)}
        for row, label in enumerate(self.prediction_labels.tolist()):
            if label in last_crowd_of_label:
                excused[row] += self.pixels[row, last_crowd_of_label[label]]
        return excused > 0.5 * self.prediction_areas


def _rows_of_ids(segmentation: np.ndarray, ids: Sequence[int]) -> np.ndarray:
    """Position of each pixel's id in `ids`; void pixels get `len(ids)`."""
    if len(set(ids)) != len(ids):
        raise ValueError(f"Segment ids of a prediction must be unique, got {sorted(ids)}.")
    present, inverse = np.unique(segmentation, return_inverse=True)
    present = present.tolist()
    position = {segment_id: row for row, segment_id in enumerate(ids)}
    strangers = [value for value in present if value not in position and value not in VOID_IDS]
    if strangers:
        raise ValueError(f"Ids {strangers[:10]} in the predicted map are absent from its `segments_info`.")
    empty = sorted(set(ids).difference(present))
    if empty:
        raise ValueError(f"Ids {empty[:10]} of `segments_info` have no pixel in the predicted map; leave them out.")
    rows = np.array([position.get(value, len(ids)) for value in present], dtype=np.int64)
    return rows[inverse].reshape(segmentation.shape)
