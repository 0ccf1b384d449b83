"""Panoptic quality (Kirillov et al., 1801.00868) with the void and crowd rules of the COCO panoptic evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_VOID_IDS = (-1, 0)


@dataclass
class _Overlap:
    """Pixel counts of one photo: `intersections[prediction, target]`, and with void as the last row and column."""

    intersections: np.ndarray
    prediction_areas: np.ndarray
    target_areas: np.ndarray

    @classmethod
    def count(cls, prediction: np.ndarray, num_predictions: int, target: np.ndarray, num_targets: int) -> "_Overlap":
        pairs = prediction.astype(np.int64) * (num_targets + 1) + target
        size = (num_predictions + 1) * (num_targets + 1)
        counts = np.bincount(pairs.ravel(), minlength=size).reshape(num_predictions + 1, num_targets + 1)
        return cls(counts, counts.sum(1), counts.sum(0))


class PanopticQuality:
    """
    Accumulates matches of predicted and true segments; memory per photo is (predictions + 1) x (targets + 1) numbers.

    A prediction and a target of one class match when their IoU is above 0.5, where the prediction's pixels on void do
    not count in the union. Crowd targets never match. An unmatched prediction with more than half of its pixels on
    void or on the crowd region of its class is no false positive (of several crowd regions of a class in one photo
    only the last counts, as in the reference).

    Args:
        num_labels: number of classes.
        stuff_label_ids: which of them are stuff; the others are things.
    """

    def __init__(self, num_labels: int, stuff_label_ids: Sequence[int]):
        strangers = [label for label in stuff_label_ids if not 0 <= label < num_labels]
        if strangers:
            raise ValueError(f"Stuff labels {strangers} are not in [0, {num_labels}).")
        self.num_labels, self.stuff_label_ids = num_labels, sorted(set(stuff_label_ids))
        self.iou_sum = np.zeros(num_labels)
        self.true_positives = np.zeros(num_labels, dtype=np.int64)
        self.false_positives = np.zeros(num_labels, dtype=np.int64)
        self.false_negatives = np.zeros(num_labels, dtype=np.int64)

    def update(
        self,
        prediction: np.ndarray,
        segments_info: Sequence[dict[str, Any]],
        target: np.ndarray,
        target_labels: Sequence[int],
        target_is_crowd: Sequence[bool],
    ) -> None:
        """
        Adds one photo.

        Args:
            prediction: integer `(height, width)`, ids of `segments_info`; 0 and -1 mean void unless listed.
            segments_info: dicts with `id` and `label_id`, as `post_process_panoptic_segmentation` returns them.
            target: integer `(height, width)`; value `k` in `[0, num_targets)` is target `k`, anything else is void.
            target_labels: label id per target.
            target_is_crowd: crowd mark per target.

        Raises:
            ValueError: sizes differ, ids are doubled or unlisted, or a label is outside `[0, num_labels)`.
        """
        prediction, target = np.asarray(prediction), np.asarray(target)
        if prediction.shape != target.shape:
            raise ValueError(f"The predicted map is {prediction.shape}, the target map {target.shape}.")
        labels = self._checked_labels([segment["label_id"] for segment in segments_info])
        target_labels = self._checked_labels(target_labels)
        crowd = np.asarray(target_is_crowd, dtype=bool)
        rows = _rows_of_ids(prediction, [segment["id"] for segment in segments_info])
        num_targets = len(target_labels)
        columns = np.where((target >= 0) & (target < num_targets), target, num_targets)
        overlap = _Overlap.count(rows, len(labels), columns, num_targets)

        matched_predictions, matched_targets = self._add_matches(overlap, labels, target_labels, crowd)
        has_pixels = overlap.prediction_areas[:-1] > 0
        ignored = self._ignored_predictions(overlap, labels, target_labels, crowd)
        np.add.at(self.false_positives, labels[~matched_predictions & has_pixels & ~ignored], 1)
        np.add.at(self.false_negatives, target_labels[~matched_targets & ~crowd], 1)

    def state(self) -> np.ndarray:
        """The counts as float64 `(4, num_labels)`; states of disjoint sets of photos may be added."""
        return np.stack([self.iou_sum, self.true_positives, self.false_positives, self.false_negatives])

    def load_state(self, state: np.ndarray) -> None:
        """Replaces the counts by a `state()`."""
        self.iou_sum = state[0].copy()
        self.true_positives, self.false_positives, self.false_negatives = state[1:].round().astype(np.int64)

    def compute(self) -> dict[str, Any]:
        """
        Returns `{"all", "things", "stuff", "per_class"}`, all values in [0, 1].

        Each group has `pq`, `sq`, `rq` as means over its classes that occur in predictions or targets, and
        `num_classes`, their number. `per_class[label]` has `pq`, `sq`, `rq`, `iou_sum` and the counts
        `true_positives`, `false_positives`, `false_negatives`.
        """
        seen = self.true_positives + self.false_positives + self.false_negatives
        divisor = self.true_positives + 0.5 * self.false_positives + 0.5 * self.false_negatives
        sq = self.iou_sum / np.maximum(self.true_positives, 1)
        rq = self.true_positives / np.maximum(divisor, 0.5)
        pq = self.iou_sum / np.maximum(divisor, 0.5)
        is_stuff = np.isin(np.arange(self.num_labels), self.stuff_label_ids)
        groups = {"all": seen > 0, "things": (seen > 0) & ~is_stuff, "stuff": (seen > 0) & is_stuff}
        result: dict[str, Any] = {
            name: {
                "pq": _mean(pq[chosen]),
                "sq": _mean(sq[chosen]),
                "rq": _mean(rq[chosen]),
                "num_classes": int(chosen.sum()),
            }
            for name, chosen in groups.items()
        }
        result["per_class"] = {
            label: {
                "pq": float(pq[label]),
                "sq": float(sq[label]),
                "rq": float(rq[label]),
                "iou_sum": float(self.iou_sum[label]),
                "true_positives": int(self.true_positives[label]),
                "false_positives": int(self.false_positives[label]),
                "false_negatives": int(self.false_negatives[label]),
            }
            for label in range(self.num_labels)
        }
        return result

    def _checked_labels(self, labels: Sequence[int]) -> np.ndarray:
        array = np.asarray(labels, dtype=np.int64).reshape(-1)
        strangers = array[(array < 0) | (array >= self.num_labels)]
        if len(strangers):
            raise ValueError(f"Labels {sorted(set(strangers.tolist()))} are not in [0, {self.num_labels}).")
        return array

    def _add_matches(
        self, overlap: _Overlap, labels: np.ndarray, target_labels: np.ndarray, crowd: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        intersections = overlap.intersections[:-1, :-1]
        on_void = overlap.intersections[:-1, -1:]
        unions = overlap.prediction_areas[:-1, None] + overlap.target_areas[None, :-1] - intersections - on_void
        iou = intersections / np.maximum(unions, 1)
        match = (iou > 0.5) & (labels[:, None] == target_labels[None]) & ~crowd[None]
        predictions, targets = match.nonzero()  # IoU > 0.5 on disjoint segments makes the pairs one to one
        np.add.at(self.iou_sum, labels[predictions], iou[predictions, targets])
        np.add.at(self.true_positives, labels[predictions], 1)
        return match.any(1), match.any(0)

    @staticmethod
    def _ignored_predictions(
        overlap: _Overlap, labels: np.ndarray, target_labels: np.ndarray, crowd: np.ndarray
    ) -> np.ndarray:
        excused = overlap.intersections[:-1, -1].copy()
        last_crowd_of_label = {int(target_labels[target]): target for target in np.flatnonzero(crowd)}
        for prediction, label in enumerate(labels.tolist()):
            if label in last_crowd_of_label:
                excused[prediction] += overlap.intersections[prediction, last_crowd_of_label[label]]
        return excused > 0.5 * overlap.prediction_areas[:-1]


def _rows_of_ids(prediction: np.ndarray, ids: list[int]) -> np.ndarray:
    """Position of each pixel's id in `ids`; void pixels get `len(ids)`."""
    if len(set(ids)) != len(ids):
        raise ValueError(f"Segment ids of a prediction must be unique, got {sorted(ids)}.")
    present, inverse = np.unique(prediction, return_inverse=True)
    position = {segment_id: row for row, segment_id in enumerate(ids)}
    strangers = [value for value in present.tolist() if value not in position and value not in _VOID_IDS]
    if strangers:
        raise ValueError(f"Ids {strangers[:10]} in the predicted map are absent from its `segments_info`.")
    rows = np.array([position.get(value, len(ids)) for value in present.tolist()])
    return rows[inverse].reshape(prediction.shape)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else 0.0
