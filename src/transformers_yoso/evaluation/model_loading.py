"""A checkpoint that fits a dataset."""

from collections.abc import Sequence
from typing import Any

import torch

from ..data import CategoryTable
from ..inference.checkpoint import load_checkpoint, size_of_edges
from ..models.configuration_yoso import YosoConfig
from ..models.image_processing_yoso import YosoImageProcessor
from ..models.modeling_yoso import YosoForUniversalSegmentation


def load_for_evaluation(
    model_name_or_path: str,
    categories: CategoryTable,
    *,
    source: str,
    device: torch.device,
    size: Sequence[int] | None = None,
    threshold: float | None = None,
    overlap_threshold: float | None = None,
    num_inference_stages: int | None = None,
) -> tuple[YosoForUniversalSegmentation, YosoImageProcessor]:
    """
    Opens model (float32, evaluation mode) and image processor of a checkpoint.

    Args:
        model_name_or_path: folder or Hub name.
        categories: of the dataset.
        source: where they are from, for messages.
        device: for the model.
        size: shortest and longest edge in pixels, instead of the saved ones.
        threshold: least class probability of a segment, instead of the saved one.
        overlap_threshold: least share of a mask that its segment must keep, instead of the saved one.
        num_inference_stages: after how many of the decoder's stages to stop (early exit), instead of the saved number.

    Raises:
        CheckpointError: there is no such checkpoint, or one of another model.
        ValueError: the model's labels are not the dataset's categories, or a senseless size.
    """
    changes: dict[str, Any] = {}
    if size is not None:
        changes["size"] = size_of_edges(size)
    if threshold is not None:
        changes["threshold"] = threshold
    if overlap_threshold is not None:
        changes["overlap_mask_area_threshold"] = overlap_threshold
    stages = {} if num_inference_stages is None else {"num_inference_stages": num_inference_stages}
    model, image_processor = load_checkpoint(model_name_or_path, processor_kwargs=changes, config_kwargs=stages)
    check_labels(model.config, categories, model_name_or_path, source)
    return model.to(device), image_processor


def check_labels(config: YosoConfig, categories: CategoryTable, model_name: str, source: str) -> None:
    """Raises `ValueError` unless the model's labels are the dataset's categories, in the same order and kind."""
    names, wanted = config.id2label, categories.id2label
    if names != wanted:
        strangers = sorted(set(wanted.values()).difference(names.values()))
        missing = sorted(set(names.values()).difference(wanted.values()))
        how = (
            f"only the dataset has {strangers[:5]}, only the model {missing[:5]}"
            if strangers or missing
            else "in order"
        )
        raise ValueError(
            f"The labels of {model_name} ({len(names)}) and the categories of {source} ({len(wanted)}) differ ({how}); "
            "the model cannot be scored on this dataset."
        )
    differing = set(config.stuff_label_ids).symmetric_difference(categories.stuff_label_ids)
    if differing:
        raise ValueError(
            f"{model_name} and {source} disagree on which classes are stuff: "
            f"{[names[label] for label in sorted(differing)]}."
        )
