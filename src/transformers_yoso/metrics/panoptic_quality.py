"""Panoptic quality (Kirillov et al., 1801.00868) with the void and crowd rules of the COCO panoptic evaluation."""

from collections.abc import Mapping, Sequence
from typing import Any

import datasets
import numpy as np

# `evaluate.load` copies this file alone, so its imports are absolute.
from transformers_yoso.metrics.gathered_metric import INTEGER_MAP, REFERENCE_FEATURES, GatheredMetric, MetricInfo
from transformers_yoso.metrics.reference import PanopticReference, checked_labels
from transformers_yoso.metrics.segment_overlap import SegmentOverlap

_DESCRIPTION = """
PQ, SQ and RQ of all classes, things, stuff and each class. A prediction and a target of one class match when their IoU is
above 0.5, where the prediction's pixels on void do not count in the union. Crowd targets never match. An unmatched
prediction with more than half of its pixels on void or on the (last) crowd region of its class is no false positive.
A listed target without a pixel is missed; a listed prediction without one is refused. Areas are counted in the maps.
"""
_INPUTS = """
Args:
    predictions: per image `{"segmentation", "segments_info"}` of `post_process_panoptic_segmentation`.
    references: per image `{"image_id", "segment_map", "class_labels", "is_crowd"}`, see `PanopticReference`.

Returns:
    `all`, `things`, `stuff`: `pq`, `sq`, `rq` in [0, 1] as means over the group's classes that occur in predictions or
    targets, and `num_classes`, their number (0: the means are 0).
    `per_class[label]`: `pq`, `sq`, `rq`, `iou_sum` and the counts `true_positives`, `false_positives`,
    `false_negatives`.
    `per_image[image_id]`: PQ of the image alone, None if nothing is predicted and true in it.
"""
_CITATION = """
@inproceedings{kirillov2019panoptic,
  title={Panoptic Segmentation},
  author={Kirillov, Alexander and He, Kaiming and Girshick, Ross and Rother, Carsten and Doll{\\'a}r, Piotr},
  booktitle={CVPR},
  year={2019}
}
"""


class PanopticQuality(GatheredMetric):
    """
    PQ as the reference COCO panoptic evaluation computes it; the record of an image is `(4, num_labels)` numbers.

    Args:
        num_labels: number of classes.
        stuff_label_ids: which of them are stuff; the others are things.
        **kwargs: of `evaluate.Metric`.

    Raises:
        ValueError: a stuff label is outside `[0, num_labels)`.
    """

    def __init__(self, num_labels: int, stuff_label_ids: Sequence[int], **kwargs: Any):
        super().__init__(num_labels, **kwargs)
        self.is_stuff = np.zeros(num_labels, dtype=bool)
        self.is_stuff[checked_labels(stuff_label_ids, num_labels)] = True

    def _info(self) -> MetricInfo:
        segment = {"id": datasets.Value("int32"), "label_id": datasets.Value("int32")}
        prediction = {"segmentation": INTEGER_MAP, "segments_info": datasets.List(segment)}
        return MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": prediction, "references": REFERENCE_FEATURES}),
        )

    def _reduce(self, prediction: Mapping[str, Any], reference: PanopticReference) -> np.ndarray:
        return count_matches(SegmentOverlap.count(prediction, reference, self.num_labels), self.num_labels)

    def _summarize(self, records: dict[int | str, np.ndarray]) -> dict[str, Any]:
        counts = sum(records.values(), np.zeros((4, self.num_labels)))
        result = summarize_counts(counts, self.is_stuff)
        result["per_image"] = {image_id: image_quality(image_counts) for image_id, image_counts in records.items()}
        return result


def count_matches(overlap: SegmentOverlap, num_labels: int) -> np.ndarray:
    """Sum of IoU, true positives, false positives and false negatives per class, float64 `(4, num_labels)`."""
    matches, iou = overlap.matches(), overlap.iou()
    predictions, targets = matches.nonzero()
    false_positives = ~matches.any(1) & ~overlap.ignored_predictions()
    false_negatives = ~matches.any(0) & ~overlap.target_is_crowd
    counts = np.zeros((4, num_labels))
    np.add.at(counts[0], overlap.target_labels[targets], iou[predictions, targets])
    np.add.at(counts[1], overlap.target_labels[targets], 1)
    np.add.at(counts[2], overlap.prediction_labels[false_positives], 1)
    np.add.at(counts[3], overlap.target_labels[false_negatives], 1)
    return counts


def quality(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """PQ, SQ, RQ and whether the class occurs, each `(num_labels,)`, from counts `(4, num_labels)`."""
    iou_sum, true_positives, false_positives, false_negatives = counts
    divisor = true_positives + 0.5 * false_positives + 0.5 * false_negatives
    occurs = divisor > 0
    sq = iou_sum / np.maximum(true_positives, 1)
    rq = true_positives / np.where(occurs, divisor, 1)
    pq = iou_sum / np.where(occurs, divisor, 1)
    return pq, sq, rq, occurs


def image_quality(counts: np.ndarray) -> float | None:
    """PQ of one image: the mean over the classes that occur in it."""
    pq, _, _, occurs = quality(counts)
    return float(pq[occurs].mean()) if occurs.any() else None


def summarize_counts(counts: np.ndarray, is_stuff: np.ndarray) -> dict[str, Any]:
    """`all`, `things`, `stuff` and `per_class` of counts `(4, num_labels)`, see the module's description."""
    pq, sq, rq, occurs = quality(counts)
    groups = {"all": occurs, "things": occurs & ~is_stuff, "stuff": occurs & is_stuff}
    result: dict[str, Any] = {}
    for name, chosen in groups.items():
        means = {key: _mean(values[chosen]) for key, values in (("pq", pq), ("sq", sq), ("rq", rq))}
        result[name] = {**means, "num_classes": int(chosen.sum())}
    result["per_class"] = {
        label: {
            "pq": float(pq[label]),
            "sq": float(sq[label]),
            "rq": float(rq[label]),
            "iou_sum": float(counts[0, label]),
            "true_positives": int(counts[1, label]),
            "false_positives": int(counts[2, label]),
            "false_negatives": int(counts[3, label]),
        }
        for label in range(counts.shape[1])
    }
    return result


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else 0.0
