"""Ids of segments that last from frame to frame."""

import numpy as np
from scipy.optimize import linear_sum_assignment

from ..inference.prediction import Prediction


class SegmentTracker:
    """
    Gives each segment the id of the segment of the previous frame that it overlaps.

    Between the current and the previous map the intersection over union of all pairs of segments comes from one
    `bincount` of pairs of ids. Within a class, the one-to-one matching with the largest sum of IoU is taken (Hungarian
    method), of pairs that reach `min_iou`. What finds no partner gets a new id; an id that is gone never comes back.
    A fused class (stuff) has one id for the whole video. A frame of another size starts anew.

    Args:
        min_iou: least overlap of the same thing in two frames; lower for fast motion, higher against mix-ups.
    """

    def __init__(self, min_iou: float = 0.3):
        if not 0 < min_iou <= 1:
            raise ValueError(f"`min_iou` must lie in (0, 1], but is {min_iou}.")
        self.min_iou = min_iou
        self._previous: Prediction | None = None
        self._next_id = 1
        self._next_instance: dict[int, int] = {}
        self._stuff: dict[int, tuple[int, int]] = {}

    def update(self, prediction: Prediction) -> Prediction:
        """The same prediction with ids and instance numbers that last. Frames must come in order."""
        names: list[tuple[int, int] | None] = [None] * len(prediction.segments)
        for k, matched in self._match(prediction).items():
            names[k] = matched
        for k, segment in enumerate(prediction.segments):
            if segment.was_fused:
                names[k] = self._stuff.get(segment.label_id)
            if names[k] is None:
                names[k] = self._new_name(segment.label_id)
            if segment.was_fused:
                self._stuff[segment.label_id] = names[k]
        ids, instances = zip(*names, strict=True) if names else ((), ())
        self._previous = prediction.renumber(ids, instances)
        return self._previous

    def _match(self, current: Prediction) -> dict[int, tuple[int, int]]:
        """By position of a current segment, the id and instance number of the previous one that it continues."""
        previous = self._previous
        if previous is None or previous.size != current.size or not previous.segments or not current.segments:
            return {}
        iou = pairwise_iou(
            previous.segments[0].regions.rows,
            current.segments[0].regions.rows,
            (len(previous.segments), len(current.segments)),
        )
        labels = [np.array([segment.label_id for segment in side.segments]) for side in (previous, current)]
        iou[(iou < self.min_iou) | (labels[0][:, None] != labels[1])] = 0
        pairs = [(i, k) for i, k in zip(*linear_sum_assignment(iou, maximize=True), strict=True) if iou[i, k] > 0]
        return {k: (previous.segments[i].id, previous.segments[i].instance) for i, k in pairs}

    def _new_name(self, label_id: int) -> tuple[int, int]:
        instance = self._next_instance.get(label_id, 0)
        self._next_instance[label_id] = instance + 1
        self._next_id += 1
        return self._next_id - 1, instance


def pairwise_iou(first: np.ndarray, second: np.ndarray, counts: tuple[int, int]) -> np.ndarray:
    """
    Intersection over union of every segment of one map with every segment of another.

    Args:
        first, second: (H, W), k + 1 where segment k lies, 0 = void.
        counts: numbers of segments.

    Returns:
        float64, `counts`.
    """
    rows, columns = counts[0] + 1, counts[1] + 1
    pairs = first.astype(np.int64) * columns + second
    common = np.bincount(pairs.ravel(), minlength=rows * columns).reshape(rows, columns)
    union = common.sum(1, keepdims=True) + common.sum(0, keepdims=True) - common
    return common[1:, 1:] / np.maximum(union[1:, 1:], 1)
