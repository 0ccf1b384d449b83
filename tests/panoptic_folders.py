"""Small datasets made of the sample photos, for the tests of readers, streams and the checker."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from PIL import Image

from transformers_yoso.data import CocoPanopticDataset

SEGMENT = {"id": "int64", "category_id": "int64", "iscrowd": "int64"}


def copy_photos(dataset: CocoPanopticDataset, count: int, folder: Path, split: str = "val", start: int = 0) -> Path:
    """Writes `count` photos from `start` on into `folder` as a split in COCO panoptic layout."""
    (folder / split).mkdir(parents=True)
    (folder / f"panoptic_{split}").mkdir()
    annotations = dataset.annotations[start : start + count]
    names = dataset.image_names[start : start + count]
    for name, annotation in zip(names, annotations, strict=True):
        shutil.copyfile(dataset.image_folder / name, folder / split / name)
        shutil.copyfile(
            dataset.png_folder / annotation["file_name"], folder / f"panoptic_{split}" / annotation["file_name"]
        )
    content = {
        "images": [
            {"id": annotation["image_id"], "file_name": name}
            for name, annotation in zip(names, annotations, strict=True)
        ],
        "annotations": annotations,
        "categories": coco_categories(dataset),
    }
    (folder / f"panoptic_{split}.json").write_text(json.dumps(content))
    return folder


def edit_json(file: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Changes the content of a JSON file in place."""
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def coco_categories(dataset: CocoPanopticDataset) -> list[dict[str, Any]]:
    """The class table as COCO lists it."""
    table = dataset.categories
    return [
        {"id": category, "name": table.id2label[label], "isthing": int(label not in table.stuff_label_ids)}
        for category, label in table.label_of_category.items()
    ]


def segments_info_table(dataset: CocoPanopticDataset, count: int) -> datasets.Dataset:
    """Columns `image`, `label` (COCO panoptic PNG), `segments_info` and `image_id`."""
    rows = [
        {
            "image": {"bytes": (dataset.image_folder / name).read_bytes(), "path": name},
            "label": {"bytes": (dataset.png_folder / annotation["file_name"]).read_bytes(), "path": None},
            "segments_info": [{key: info[key] for key in SEGMENT} for info in annotation["segments_info"]],
            "image_id": annotation["image_id"],
        }
        for name, annotation in zip(dataset.image_names[:count], dataset.annotations[:count], strict=True)
    ]
    features = {
        "image": datasets.Image(),
        "label": datasets.Image(),
        "segments_info": datasets.List({key: datasets.Value(kind) for key, kind in SEGMENT.items()}),
        "image_id": datasets.Value("int64"),
    }
    return datasets.Dataset.from_list(rows, features=datasets.Features(features))


def semantic_instance_table(
    dataset: CocoPanopticDataset, count: int, void_id: int = 0, added: int = 0
) -> datasets.Dataset:
    """Columns `image` and `annotation`: category id plus `added` in red, instance id in green, void with `void_id`."""
    rows = []
    for index in range(count):
        record = dataset.read_record(index)
        channels = np.zeros((*record.ids.shape, 3), dtype=np.uint8)
        channels[..., 0] = void_id
        for number, info in enumerate(record.segments_info, start=1):
            channels[record.ids == info["id"]] = (info["category_id"] + added, number, 0)
        name = dataset.image_names[index]
        rows.append(
            {
                "image": {"bytes": (dataset.image_folder / name).read_bytes(), "path": name},
                "annotation": {"bytes": png_bytes(channels), "path": None},
            }
        )
    features = datasets.Features({"image": datasets.Image(), "annotation": datasets.Image()})
    return datasets.Dataset.from_list(rows, features=features)


def png_bytes(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()
