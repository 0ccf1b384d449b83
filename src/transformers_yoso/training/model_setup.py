"""From arguments and a dataset's categories to a model with its image processor, and from these to a model folder."""

from pathlib import Path

import timm
import torch
from transformers import TimmBackboneConfig

from ..data import CategoryTable
from ..inference.checkpoint import check_checkpoint
from ..models.configuration_yoso import YosoConfig
from ..models.image_processing_yoso import YosoImageProcessor
from ..models.modeling_yoso import YosoForUniversalSegmentation
from .arguments import DataArguments, ModelArguments
from .backbone_weights import load_backbone_weights
from .freezing import freeze_first_stages

NEW_MODEL_THRESHOLDS = {"threshold": 0.5, "overlap_mask_area_threshold": 0.8}


def build_model(arguments: ModelArguments, categories: CategoryTable) -> YosoForUniversalSegmentation:
    """
    Opens `model_name_or_path` with the dataset's labels, or makes a new model around `backbone`.

    Raises:
        CheckpointError: `model_name_or_path` is no checkpoint, or one of another model.
        ValueError, FileNotFoundError: the backbone weights do not fit, see `load_backbone_weights`.
    """
    changes = {
        "id2label": categories.id2label,
        "label2id": {name: label for label, name in categories.id2label.items()},
        "stuff_label_ids": categories.stuff_label_ids,
    }
    if arguments.train_num_points is not None:
        changes["train_num_points"] = arguments.train_num_points
    if arguments.model_name_or_path is not None:
        check_checkpoint(arguments.model_name_or_path)
        model = YosoForUniversalSegmentation.from_pretrained(
            arguments.model_name_or_path, dtype=torch.float32, ignore_mismatched_sizes=True, **changes
        )
        freeze_first_stages(model.model.backbone, arguments.frozen_stages)
        return model
    config = YosoConfig(
        backbone_config=TimmBackboneConfig(
            backbone=arguments.backbone,
            out_indices=[-4, -3, -2, -1],
            freeze_batch_norm_2d=not arguments.train_backbone_batch_norm,
        ),
        pyramid_channels=arguments.pyramid_channels,
        aggregation_dim=arguments.aggregation_dim,
        aggregator_type=arguments.aggregator_type,
        hidden_dim=arguments.hidden_dim,
        feedforward_dim=arguments.feedforward_dim,
        num_queries=arguments.num_queries,
        num_stages=arguments.num_stages,
        attention_type=arguments.attention_type,
        num_attention_blocks=arguments.num_attention_blocks,
        dynamic_kernel_size=arguments.dynamic_kernel_size,
        num_class_layers=arguments.num_class_layers,
        num_mask_layers=arguments.num_mask_layers,
        temperature=arguments.temperature,
        **changes,
    )
    model = YosoForUniversalSegmentation(config)
    if arguments.backbone_weights is not None:
        load_backbone_weights(model.model.backbone, arguments.backbone_weights)
    freeze_first_stages(model.model.backbone, arguments.frozen_stages)
    return model


def build_image_processor(
    arguments: ModelArguments, data: DataArguments, categories: CategoryTable
) -> YosoImageProcessor:
    """Makes the processor that evaluation uses and that is saved with the model: size, mean, thresholds, stuff ids."""
    shortest, longest = data.validation_size
    changes = {
        "size": {"shortest_edge": shortest, "longest_edge": longest},
        "label_ids_to_fuse": categories.stuff_label_ids,
    }
    given = {
        "threshold": arguments.object_threshold,
        "overlap_mask_area_threshold": arguments.overlap_threshold,
        "image_mean": arguments.image_mean,
        "image_std": arguments.image_std,
    }
    changes |= {name: value for name, value in given.items() if value is not None}
    if arguments.model_name_or_path is not None:
        return YosoImageProcessor.from_pretrained(arguments.model_name_or_path, **changes)
    pretrained = timm.get_pretrained_cfg(arguments.backbone)
    statistics = {"image_mean": list(pretrained.mean), "image_std": list(pretrained.std)} if pretrained else {}
    return YosoImageProcessor(**{**NEW_MODEL_THRESHOLDS, **statistics, **changes})


def save_model_folder(
    model: YosoForUniversalSegmentation, image_processor: YosoImageProcessor, folder: Path, half_precision: bool
) -> None:
    """
    Writes a folder that `from_pretrained` opens.

    With `half_precision` the weights lie in float16, but the configuration says float32, so they load as float32.
    """
    state = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    if half_precision:
        state = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    model.save_pretrained(folder, state_dict=state)
    image_processor.save_pretrained(folder)
