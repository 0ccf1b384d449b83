"""Turns an official YOSO checkpoint into a folder that `from_pretrained` opens."""

import os
from pathlib import Path

from torch import Tensor

from ..model_card import ReportedQuality, push_folder_to_hub, write_model_card
from ..models.configuration_yoso import YosoConfig
from ..models.image_processing_yoso import YosoImageProcessor
from ..models.modeling_yoso import YosoForUniversalSegmentation
from .checkpoint_loading import fetch_checkpoint, load_official_state_dict
from .dataset_specs import DatasetSpec, get_dataset_spec
from .official_keys import convert_official_state_dict

PAPER = {"source_name": "Hu et al., CVPR 2023", "source_url": "https://arxiv.org/abs/2303.14651"}


def released_config(spec: DatasetSpec) -> YosoConfig:
    """Configuration of the released ResNet-50 model of `spec`."""
    return YosoConfig(
        backbone_config={
            "model_type": "timm_backbone",
            "backbone": "resnet50",
            "out_indices": [1, 2, 3, 4],
            "freeze_batch_norm_2d": spec.freeze_batch_norm_2d,
        },
        id2label=spec.id2label,
        label2id={label: index for index, label in spec.id2label.items()},
        stuff_label_ids=spec.stuff_label_ids,
        label_colors={label: list(spec.label_colors[index]) for index, label in spec.id2label.items()},
        num_queries=spec.num_queries,
        num_class_layers=spec.num_class_layers,
        num_mask_layers=spec.num_mask_layers,
        temperature=spec.temperature,
    )


def released_image_processor(spec: DatasetSpec) -> YosoImageProcessor:
    """Image processor with the test size, thresholds and stuff labels of `spec`."""
    return YosoImageProcessor(
        size={"shortest_edge": spec.shortest_edge, "longest_edge": spec.longest_edge},
        threshold=spec.object_threshold,
        overlap_mask_area_threshold=spec.overlap_threshold,
        label_ids_to_fuse=spec.stuff_label_ids,
    )


def convert_model(state_dict: dict[str, Tensor], spec: DatasetSpec) -> YosoForUniversalSegmentation:
    """Model of `spec` with the official weights.

    Raises:
        ValueError: if the official names or shapes are not exactly those of the model; every key at fault is named.
    """
    model = YosoForUniversalSegmentation(released_config(spec))
    model.load_state_dict(convert_official_state_dict(state_dict, model))
    return model.eval()


def convert_checkpoint(
    dataset: str,
    output_dir: str | os.PathLike,
    checkpoint: str | os.PathLike | None = None,
    hub_model_id: str | None = None,
) -> YosoForUniversalSegmentation:
    """Convert an official checkpoint and write config, processor, safetensors weights and model card to a folder.

    Args:
        dataset: One of `DATASET_SPECS`: coco, cityscapes, ade20k, mapillary.
        output_dir: Folder to be written.
        checkpoint: Path or http(s) address of a `.pth` file. Default: the release's file for `dataset`.
        hub_model_id: Hub repository the folder is also uploaded to.

    Returns:
        `YosoForUniversalSegmentation`: the converted model.

    Raises:
        ValueError: for an unknown data set, an unsafe or unreadable file, or keys that do not fit.
        FileNotFoundError, ConnectionError: if the file cannot be had.
    """
    spec = get_dataset_spec(dataset)
    source = spec.checkpoint_url if checkpoint is None else os.fspath(checkpoint)
    model = convert_model(load_official_state_dict(fetch_checkpoint(source)), spec)

    model.save_pretrained(output_dir)
    released_image_processor(spec).save_pretrained(output_dir)
    write_released_card(Path(output_dir), spec, os.path.basename(source))
    if hub_model_id is not None:
        push_folder_to_hub(output_dir, hub_model_id, commit_message=f"YOSO ResNet-50, {spec.title}")
    return model


def write_released_card(folder: Path, spec: DatasetSpec, source: str) -> Path:
    """Model card of a converted checkpoint: where it is from, and the paper's PQ, marked as such.

    Args:
        folder: The converted checkpoint.
        spec: What it was trained for.
        source: Name of the official file.
    """
    return write_model_card(
        folder,
        title=f"YOSO ResNet-50, {spec.title}",
        weights_license="mit",
        dataset={"name": spec.title},
        reported=[
            ReportedQuality(quality, f"validation split, test size {shortest}, {longest}", **PAPER)
            for (shortest, longest), quality in spec.panoptic_quality.items()
        ],
        origin=(
            "The weights were released by the paper's authors under the MIT licence at "
            f"<https://github.com/hujiecpp/YOSO> and converted from `{source}` tensor by tensor, without change."
        ),
    )
