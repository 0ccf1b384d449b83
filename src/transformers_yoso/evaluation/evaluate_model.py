"""Scores of a model on a dataset: panoptic quality, instance AP and semantic IoU."""

import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch.utils.data import Dataset

from ..data import PanopticSample
from ..metrics import GatheredMetric, InstanceAveragePrecision, MeanIoU, PanopticQuality, reference_of
from .prediction import Prediction, predict_dataset


def evaluate_panoptic(
    model: torch.nn.Module,
    image_processor: Any,
    dataset: Dataset,
    accelerator: Accelerator,
    num_workers: int = 0,
) -> dict[str, Any]:
    """
    Scores the panoptic maps at the images' own size; `evaluate_model` with its defaults.

    Every process takes its share of the images; all get the result over the whole dataset.
    """
    return evaluate_model(model, image_processor, dataset, accelerator, num_workers=num_workers)


def evaluate_model(
    model: torch.nn.Module,
    image_processor: Any,
    dataset: Dataset,
    accelerator: Accelerator,
    *,
    subtasks: Sequence[str] = ("panoptic",),
    batch_size: int = 1,
    num_workers: int = 0,
    show_progress: bool = False,
    on_prediction: Callable[[Prediction], None] | None = None,
) -> dict[str, Any]:
    """
    Runs the model at its processor's size and scores the results at the images' own size.

    Args:
        model: a `YosoForUniversalSegmentation` on the accelerator's device; runs in the accelerator's precision.
        image_processor: a `YosoImageProcessor`; its saved thresholds and stuff ids are used.
        dataset: of `PanopticSample`, map-style or streamed.
        accelerator: gives device, precision and processes.
        subtasks: which of "panoptic", "instance" and "semantic" to score.
        batch_size: images per forward pass and process.
        num_workers: of the loader.
        show_progress: whether the main process shows a bar.
        on_prediction: called with every prediction of this process, for example to write it to a file.

    Returns:
        On every process the result over the whole dataset: of panoptic `all`, `things`, `stuff` and `per_class` of
        `PanopticQuality`, and `images`, a list of `index`, `image_id`, `file_name` and `pq` per image; `instance` and
        `semantic` as `InstanceAveragePrecision` and `MeanIoU` give them; `num_images` and `seconds`.

    Raises:
        ValueError: a subtask is unknown, or image ids are not unique.
    """
    started = time.perf_counter()
    was_training = model.training
    model.eval()
    metrics = _metrics_of(model.config, subtasks)
    images = []
    predictions = predict_dataset(
        model,
        image_processor,
        dataset,
        accelerator,
        subtasks=subtasks,
        batch_size=batch_size,
        num_workers=num_workers,
        show_progress=show_progress,
    )
    for prediction in predictions:
        reference = reference_of(prediction.sample)
        for subtask, metric in metrics.items():
            metric.add(prediction=getattr(prediction, subtask), reference=reference)
        images.append(_describe(prediction.index, prediction.sample))
        if on_prediction is not None:
            on_prediction(prediction)
    model.train(was_training)
    images = sorted(gather_object(images), key=lambda image: str(image["image_id"]))
    _check_image_ids(images)
    scores = {subtask: metric.compute() for subtask, metric in metrics.items()}
    result = scores.pop("panoptic", {})
    if "per_image" in result:
        quality_of_image = result.pop("per_image")
        result["images"] = [{**image, "pq": quality_of_image[image["image_id"]]} for image in images]
    return {**result, **scores, "num_images": len(images), "seconds": time.perf_counter() - started}


def _metrics_of(config: Any, subtasks: Sequence[str]) -> dict[str, GatheredMetric]:
    groups = {"num_labels": config.num_labels, "stuff_label_ids": config.stuff_label_ids}
    makers = {
        "panoptic": lambda: PanopticQuality(**groups),
        "instance": lambda: InstanceAveragePrecision(**groups),
        "semantic": lambda: MeanIoU(config.num_labels),
    }
    return {subtask: make() for subtask, make in makers.items() if subtask in subtasks}


def _describe(index: int | None, sample: PanopticSample) -> dict[str, Any]:
    return {"index": index, "image_id": sample.image_id, "file_name": sample.file_name}


def _check_image_ids(images: Sequence[dict[str, Any]]) -> None:
    for image, following in pairwise(images):
        if image["image_id"] == following["image_id"]:
            raise ValueError(
                f"{image['file_name']} and {following['file_name']} have one image id, {image['image_id']}; ids must be "
                "unique, as each counts once."
            )
