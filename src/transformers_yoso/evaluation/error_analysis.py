"""What holds a model back: causes of its errors by class and size, what each costs in PQ, and examples."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..metrics import SegmentOverlap, reference_of
from ..metrics.panoptic_quality import count_matches, summarize_counts
from .error_causes import FALSE_CAUSES, MATCHED, MISS_CAUSES, best_query_iou, false_causes, miss_causes
from .error_examples import ErrorExamples
from .prediction import Prediction

SIZES = {"small": 32**2, "medium": 96**2, "large": float("inf")}
"""COCO's size classes by the largest area in pixels."""


class ErrorAnalysis:
    """
    Counts the causes of errors over the images of a dataset.

    Args:
        id2label: names of the labels.
        stuff_label_ids: which of them are stuff.
        examples: keeps some errors of each cause for a picture sheet.
    """

    def __init__(self, id2label: Mapping[int, str], stuff_label_ids: Sequence[int], examples: ErrorExamples):
        self.id2label, self.examples = id2label, examples
        self.is_stuff = np.isin(np.arange(len(id2label)), list(stuff_label_ids))
        self.counts = np.zeros((4, len(id2label)))
        self.misses: Counter[tuple[int, str, str]] = Counter()
        self.false: Counter[tuple[int, str, str]] = Counter()

    def add(self, prediction: Prediction) -> None:
        """Adds an image with its panoptic and instance results."""
        num_labels, sample = len(self.id2label), prediction.sample
        overlap = SegmentOverlap.count(prediction.panoptic, reference_of(sample), num_labels)
        self.counts += count_matches(overlap, num_labels)
        query_iou = best_query_iou(
            prediction.instance["segmentation"].numpy(),
            np.array([segment["label_id"] for segment in prediction.instance["segments_info"]]),
            sample.segment_map.numpy(),
            overlap.target_labels,
        )
        misses, false = miss_causes(overlap, query_iou), false_causes(overlap)
        self.misses.update(_keys(misses, overlap.target_labels, overlap.target_areas))
        self.false.update(_keys(false, overlap.prediction_labels, overlap.prediction_areas))
        self.examples.add(prediction, misses, false)

    def result(self) -> dict[str, Any]:
        """
        The counts as plain numbers.

        `pq`: of the whole dataset. `missed` and `false`: each `by_class[name][cause]` and `by_size[size][cause]`, with
        the cause "matched" for the right ones. `pq_without[cause]`: PQ if the segments missed for this cause were
        matched with the mean IoU of their class's matches, and the false ones of this cause were not there.
        """
        return {
            "pq": summarize_counts(self.counts, self.is_stuff)["all"]["pq"],
            "missed": self._tables(self.misses, (MATCHED, *MISS_CAUSES)),
            "false": self._tables(self.false, (MATCHED, *FALSE_CAUSES)),
            "pq_without": {
                cause: self._quality_without(cause) for cause in dict.fromkeys((*MISS_CAUSES, *FALSE_CAUSES))
            },
        }

    def _tables(self, counter: Counter[tuple[int, str, str]], causes: Sequence[str]) -> dict[str, Any]:
        by_class = {name: dict.fromkeys(causes, 0) for name in self.id2label.values()}
        by_size = {size: dict.fromkeys(causes, 0) for size in SIZES}
        for (label, size, cause), count in counter.items():
            by_class[self.id2label[label]][cause] += count
            by_size[size][cause] += count
        return {"by_class": by_class, "by_size": by_size}

    def _quality_without(self, cause: str) -> float:
        counts = self.counts.copy()
        iou_sum, true_positives = self.counts[:2]
        overall = iou_sum.sum() / max(true_positives.sum(), 1)
        mean_iou = np.where(true_positives > 0, iou_sum / np.maximum(true_positives, 1), overall)
        for (label, _, other), count in self.misses.items():
            if other == cause:
                counts[:, label] += count * np.array([mean_iou[label], 1, 0, -1])
        for (label, _, other), count in self.false.items():
            if other == cause:
                counts[2, label] -= count
        return summarize_counts(counts, self.is_stuff)["all"]["pq"]


def format_errors(result: Mapping[str, Any]) -> str:
    """The result of an `ErrorAnalysis` as Markdown tables."""
    lines = [f"PQ {100 * result['pq']:.1f}. What PQ would be without the errors of one cause:", ""]
    ranked = sorted(result["pq_without"].items(), key=lambda item: -item[1])
    lines += _table(["cause", "PQ"], ([cause, f"{100 * pq:.1f}"] for cause, pq in ranked))
    for kind, title in (("missed", "True segments"), ("false", "Predicted segments")):
        for group, name in (("by_class", "class"), ("by_size", "size")):
            rows = result[kind][group]
            causes = list(next(iter(rows.values())))
            lines += ["", f"{title} by {name}:", ""]
            lines += _table([name, "all", *causes], _count_rows(rows))
    return "\n".join(lines)


def _count_rows(rows: Mapping[str, Mapping[str, int]]) -> list[list[str]]:
    table = [[name, sum(counts.values()), *counts.values()] for name, counts in rows.items()]
    total = ["all", *(sum(column) for column in list(zip(*table, strict=True))[1:])]
    return [[str(value) for value in row] for row in [*table, total]]


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    rule = ["---", *["---:"] * (len(header) - 1)]
    return [f"| {' | '.join(row)} |" for row in [header, rule, *rows]]


def _keys(causes: Sequence[str | None], labels: np.ndarray, areas: np.ndarray) -> list[tuple[int, str, str]]:
    return [
        (int(label), next(size for size, largest in SIZES.items() if area <= largest), cause)
        for cause, label, area in zip(causes, labels, areas, strict=True)
        if cause is not None
    ]
