"""Mean intersection over union of semantic maps."""

from typing import Any

import datasets
import numpy as np

# `evaluate.load` copies this file alone, so its imports are absolute.
from transformers_yoso.metrics.gathered_metric import INTEGER_MAP, REFERENCE_FEATURES, GatheredMetric, MetricInfo
from transformers_yoso.metrics.reference import PanopticReference, checked_labels, reference_arrays

_DESCRIPTION = """
Mean IoU over classes, from pixel counts over all images. Void pixels do not count; crowd regions count as their class.
"""
_INPUTS = """
Args:
    predictions: per image the integer map of `post_process_semantic_segmentation`.
    references: per image `{"image_id", "segment_map", "class_labels", "is_crowd"}`, see `PanopticReference`.

Returns:
    `miou`: mean IoU over the classes that occur in predictions or targets, and `num_classes`, their number.
    `mean_accuracy`: mean share of a class's true pixels that are found, over the classes that occur in targets.
    `pixel_accuracy`: share of all pixels that are right.
    `per_class[label]`: `iou` and `accuracy`. All in [0, 1], None where there is nothing to average.
"""


class MeanIoU(GatheredMetric):
    """
    Semantic IoU; the record of an image is `(3, num_labels)` pixel counts.

    Args:
        num_labels: number of classes.
        **kwargs: of `evaluate.Metric`.
    """

    def _info(self) -> MetricInfo:
        return MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": INTEGER_MAP, "references": REFERENCE_FEATURES}),
        )

    def _reduce(self, prediction: Any, reference: PanopticReference) -> np.ndarray:
        """Pixels right, predicted and true per class."""
        prediction = np.asarray(prediction)
        segment_map, labels, _ = reference_arrays(reference, self.num_labels, prediction.shape)
        inside = segment_map < len(labels)
        predicted, true = checked_labels(prediction[inside], self.num_labels), labels[segment_map[inside]]
        columns = (true[predicted == true], predicted, true)
        return np.stack([np.bincount(column, minlength=self.num_labels) for column in columns])

    def _summarize(self, records: dict[int | str, np.ndarray]) -> dict[str, Any]:
        right, predicted, true = sum(records.values(), np.zeros((3, self.num_labels), dtype=np.int64))
        union = predicted + true - right
        iou = [_share(*pair) for pair in zip(right, union, strict=True)]
        accuracy = [_share(*pair) for pair in zip(right, true, strict=True)]
        return {
            "miou": _mean_of_known(iou),
            "mean_accuracy": _mean_of_known(accuracy),
            "pixel_accuracy": _share(right.sum(), true.sum()),
            "num_classes": int((union > 0).sum()),
            "per_class": {label: {"iou": iou[label], "accuracy": accuracy[label]} for label in range(self.num_labels)},
        }


def _share(part: np.integer, whole: np.integer) -> float | None:
    return float(part / whole) if whole else None


def _mean_of_known(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
