"""Base of the metrics: `evaluate` modules that keep a small record per image and gather over processes."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import datasets
import torch.distributed

from .evaluate_library import import_evaluate
from .reference import PanopticReference

evaluate = import_evaluate()
MetricInfo = evaluate.MetricInfo
ImageId = int | str

INTEGER_MAP = datasets.List(datasets.List(datasets.Value("int32")))
REFERENCE_FEATURES = {
    "image_id": datasets.Value("string"),
    "segment_map": INTEGER_MAP,
    "class_labels": datasets.List(datasets.Value("int64")),
    "is_crowd": datasets.List(datasets.Value("bool")),
}
"""What the modules' `features` say of a `PanopticReference`."""


class GatheredMetric(evaluate.Metric, ABC):
    """
    Reduces each image to counts or run lengths when it is added; no map is kept and nothing is written to disk.

    `compute` gathers the records of all processes if `torch.distributed` is initialised (as Accelerate and `torchrun`
    do), counts each image id once, so that samples repeated to fill a batch do no harm, gives every process the result
    and empties the metric.

    Args:
        num_labels: number of classes.
        **kwargs: of `evaluate.Metric`.
    """

    def __init__(self, num_labels: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.num_labels = num_labels
        self._records: dict[ImageId, Any] = {}

    def __len__(self) -> int:
        """Number of different images added in this process since the last `compute`."""
        return len(self._records)

    def add(self, *, prediction: Any = None, reference: PanopticReference | None = None) -> None:
        """Adds one image; see `add_batch`."""
        self.add_batch(predictions=[prediction], references=[reference])

    def add_batch(
        self, *, predictions: Sequence[Any] | None = None, references: Sequence[PanopticReference] | None = None
    ) -> None:
        """
        Adds images; those whose id was added before are passed over.

        Args:
            predictions: one per image, as the image processor's post-processing returns them.
            references: ground truth of the same images.

        Raises:
            ValueError: the numbers differ, or a prediction and its reference do not fit.
        """
        predictions, references = ([] if images is None else images for images in (predictions, references))
        if len(predictions) != len(references):
            raise ValueError(f"Got {len(predictions)} predictions and {len(references)} references.")
        for prediction, reference in zip(predictions, references, strict=True):
            image_id = reference["image_id"]
            image_id = image_id.item() if hasattr(image_id, "item") else image_id
            if image_id not in self._records:
                self._records[image_id] = self._reduce(prediction, reference)

    def compute(
        self, *, predictions: Sequence[Any] | None = None, references: Sequence[PanopticReference] | None = None
    ) -> dict[str, Any]:
        """
        The result over all images of all processes; adds `predictions` and `references` first if given.

        Every process has to call it, also one that had no image.
        """
        if predictions is not None or references is not None:
            self.add_batch(predictions=predictions, references=references)
        if self.num_process > 1 and not _is_distributed():
            raise ValueError(
                "Several processes are gathered through torch.distributed, which is not initialised: start them with "
                "`accelerate launch` or `torchrun`, and leave `num_process` alone."
            )
        records, self._records = _gather(self._records), {}
        return self._summarize(records)

    @abstractmethod
    def _reduce(self, prediction: Any, reference: PanopticReference) -> Any:
        """The record of one image; it can be pickled."""

    @abstractmethod
    def _summarize(self, records: dict[ImageId, Any]) -> dict[str, Any]:
        """The result from the records of all images, in an order that does not depend on the processes."""

    def _build_data_dir(self) -> str:
        # Where evaluate.Metric would keep its cache files; there are none, so no folder is made.
        return self._data_dir_root


def _is_distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _gather(records: dict[ImageId, Any]) -> dict[ImageId, Any]:
    parts: list[dict[ImageId, Any]] = [records]
    if _is_distributed():
        parts = [{} for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather_object(parts, records)
    merged: dict[ImageId, Any] = {}
    for part in parts:
        merged = {**part, **merged}
    return dict(sorted(merged.items(), key=lambda item: str(item[0])))
