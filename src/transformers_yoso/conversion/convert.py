"""Turns an official YOSO checkpoint into a folder that `from_pretrained` opens."""

import os
from pathlib import Path

from huggingface_hub import HfApi
from torch import Tensor

from ..models.configuration_yoso import YosoConfig
from ..models.image_processing_yoso import YosoImageProcessor
from ..models.modeling_yoso import YosoForUniversalSegmentation
from .checkpoint_loading import fetch_checkpoint, load_official_state_dict
from .dataset_specs import DatasetSpec, get_dataset_spec
from .official_keys import convert_official_state_dict

MODEL_CARD = """\
---
license: mit
library_name: transformers
pipeline_tag: image-segmentation
tags:
- panoptic-segmentation
- yoso
---

# YOSO ResNet-50, {title}

Weights of [You Only Segment Once: Towards Real-Time Panoptic Segmentation](https://arxiv.org/abs/2303.14651)
(Hu et al., CVPR 2023), released by its authors under the MIT licence at <https://github.com/hujiecpp/YOSO>
and converted from `{source}` by `transformers-yoso`, tensor by tensor and without change.

{num_things} thing and {num_stuff} stuff classes. The authors report PQ {panoptic_quality} on the validation split at
test size {shortest_edge}, {longest_edge} (shortest, longest edge in pixels); this conversion did not measure it again.

```python
import transformers_yoso
from transformers import pipeline

segments = pipeline("image-segmentation", model=FOLDER)("photo.jpg")
```
"""


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
    card = MODEL_CARD.format(
        title=spec.title,
        source=os.path.basename(source),
        num_things=spec.num_things,
        num_stuff=spec.num_stuff,
        panoptic_quality=spec.panoptic_quality,
        shortest_edge=spec.shortest_edge,
        longest_edge=spec.longest_edge,
    )
    Path(output_dir, "README.md").write_text(card, encoding="utf-8")
    if hub_model_id is not None:
        hub = HfApi()
        repo_id = hub.create_repo(hub_model_id, exist_ok=True).repo_id
        hub.upload_folder(repo_id=repo_id, folder_path=output_dir, commit_message=f"YOSO ResNet-50, {spec.title}")
    return model
