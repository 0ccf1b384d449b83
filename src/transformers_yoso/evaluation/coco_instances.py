"""Mask AP of a panoptic model on COCO's `instances` annotations (paper Table 11)."""

from collections.abc import Mapping
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from ..data import CocoInstancesDataset
from ..metrics.instance_average_precision import encode_mask, make_coco, score_instances
from ..models.configuration_yoso import YosoConfig
from .prediction import Prediction, predict_dataset


def evaluate_coco_instances(
    model: torch.nn.Module,
    image_processor: Any,
    dataset: CocoInstancesDataset,
    accelerator: Accelerator,
    *,
    batch_size: int = 1,
    num_workers: int = 0,
    show_progress: bool = False,
) -> dict[str, Any]:
    """
    Scores the model's things against the true masks as they lie in the file, overlaps and crowd included.

    Classes are matched by name; predictions of stuff, and of things that the dataset lacks, are left out.

    Args:
        model: a `YosoForUniversalSegmentation` in evaluation mode on the accelerator's device.
        image_processor: a `YosoImageProcessor`; its saved size is the scale.
        dataset: photos and true instances.
        accelerator: gives device, precision and processes.
        batch_size: images per forward pass and process.
        num_workers: of the loader.
        show_progress: whether the main process shows a bar.

    Returns:
        On every process `ap`, `ap50`, `ap75`, `ap_small`, `ap_medium`, `ap_large` and `per_class[name]`, as
        `InstanceAveragePrecision` gives them, and `results`, the predicted instances in COCO's result format.

    Raises:
        ValueError: the dataset has a category that is no thing of the model, or an annotation without `area`.
    """
    category_of_label = match_categories(model.config, dataset)
    predictions = predict_dataset(
        model,
        image_processor,
        dataset,
        accelerator,
        subtasks=("instance",),
        batch_size=batch_size,
        num_workers=num_workers,
        show_progress=show_progress,
    )
    own = [result for prediction in predictions for result in coco_results(prediction, category_of_label)]
    results = sorted(gather_object(own), key=lambda result: str(result["image_id"]))
    scores = score_instances(*_as_coco(dataset, results))
    names = {category: model.config.id2label[label] for label, category in category_of_label.items()}
    scores["per_class"] = {names[category]: values for category, values in scores["per_class"].items()}
    return {**scores, "results": results}


def match_categories(config: YosoConfig, dataset: CocoInstancesDataset) -> dict[int, int]:
    """The dataset's category id by the model's label id, for the things that both have; raises as above."""
    stuff = set(config.stuff_label_ids)
    label_of_name = {name: label for label, name in config.id2label.items() if label not in stuff}
    names = {category: dataset.categories.id2label[k] for category, k in dataset.categories.label_of_category.items()}
    if strangers := sorted(set(names.values()) - set(label_of_name)):
        raise ValueError(
            f"{dataset.source}: the categories {strangers[:10]} are no thing classes of the model, which has "
            f"{sorted(label_of_name)[:10]}...; AP needs a model of these classes."
        )
    return {label_of_name[name]: category for category, name in names.items()}


def coco_results(prediction: Prediction, category_of_label: Mapping[int, int]) -> list[dict[str, Any]]:
    """The instances of an image in COCO's result format: `image_id`, `category_id`, `segmentation`, `score`."""
    masks, segments = prediction.instance["segmentation"].numpy(), prediction.instance["segments_info"]
    results = []
    for mask, segment in zip(masks, segments, strict=True):
        if segment["label_id"] in category_of_label:
            run_lengths = encode_mask(mask)["segmentation"]
            results.append(
                {
                    "image_id": prediction.sample.image_id,
                    "category_id": category_of_label[segment["label_id"]],
                    "segmentation": {**run_lengths, "counts": run_lengths["counts"].decode()},
                    "score": segment["score"],
                }
            )
    return results


def _as_coco(dataset: CocoInstancesDataset, results: list[dict[str, Any]]) -> tuple[Any, Any]:
    """True and predicted instances in pycocotools' form."""
    from pycocotools import mask as coco_mask

    if without := [annotation.get("id") for annotation in dataset.annotations if "area" not in annotation]:
        raise ValueError(
            f"{dataset.source}: the annotations {without[:10]} lack `area`, by which AP tells sizes apart."
        )
    categories = list(dataset.categories.label_of_category)
    true = [{"iscrowd": 0, **annotation} for annotation in dataset.annotations]
    predicted = [{**result, "iscrowd": 0, "area": int(coco_mask.area(result["segmentation"]))} for result in results]
    return make_coco(dataset.images, true, categories), make_coco(dataset.images, predicted, categories)
