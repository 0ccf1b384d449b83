"""Tiny folders as the four datasets' own tools leave them: resized photos, maps of three strips, official class tables."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from transformers_yoso.conversion.dataset_specs import get_dataset_spec

SIZE = (48, 64)
"""Height and width of the photos."""
CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""Ids of the 19 classes in cityscapesscripts' labels.py, in the order of their train ids."""
LONG_SPLITS = {"train": "training", "val": "validation"}
COUNTS = {"train": 2, "val": 1}


def make_official_folder(
    dataset: str, folder: Path, photos: Sequence[Path], counts: Mapping[str, int] = COUNTS
) -> Path:
    """
    Writes the parts that `arrange_dataset` reads.

    Args:
        dataset: coco, cityscapes, ade20k or mapillary.
        folder: is made.
        photos: one for each photo of the two splits.
        counts: photos of each split.
    """
    generator, names, categories = np.random.default_rng(0), iter(range(len(photos))), official_categories(dataset)
    for split, count in counts.items():
        images, annotations = [], []
        for number in (next(names) for _ in range(count)):
            image_id, photo, png, listed = _names(dataset, split, number)
            image = Image.open(photos[number]).convert("RGB").resize(SIZE[::-1])
            _save(image, folder / photo)
            ids, segments = _segments(categories, generator)
            _save(Image.fromarray(ids), folder / png)
            images.append({"id": image_id, "file_name": listed, "height": SIZE[0], "width": SIZE[1]})
            annotations.append({"image_id": image_id, "file_name": png.name, "segments_info": segments})
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / _json_name(dataset, split)).write_text(json.dumps(content))
    return folder


def official_categories(dataset: str) -> list[dict[str, Any]]:
    """The class table of the official JSON."""
    spec = get_dataset_spec(dataset)
    stuff = set(spec.stuff_label_ids)
    ids = {
        "coco": [label + 1 if label < 80 else label + 12 for label in range(133)],
        "cityscapes": CITYSCAPES_IDS,
        "ade20k": range(150),
        "mapillary": range(1, 66),
    }[dataset]
    table = [
        {"id": ids[label], "name": name, "isthing": int(label not in stuff)} for label, name in spec.id2label.items()
    ]
    if dataset == "ade20k":
        table[8]["name"] = "window "  # as the tool has it
    return table


def _names(dataset: str, split: str, number: int) -> tuple[int | str, Path, Path, str]:
    """Image id, places of photo and map, and the photo's name in the JSON."""
    if dataset == "coco":
        stem = f"{number + 1:012d}"
        places = Path(f"{split}2017/{stem}.jpg"), Path(f"annotations/panoptic_{split}2017/{stem}.png")
        return number + 1, *places, f"{stem}.jpg"
    if dataset == "cityscapes":
        image_id = f"aachen_{number:06d}_000019"
        photo = Path(f"leftImg8bit/{split}/aachen/{image_id}_leftImg8bit.png")
        png = Path(f"gtFine/cityscapes_panoptic_{split}/{image_id}_gtFine_panoptic.png")
        return image_id, photo, png, f"{image_id}_gtFine_leftImg8bit.png"  # no such file: the tool writes it so
    long_split = LONG_SPLITS[split]
    if dataset == "ade20k":
        image_id = f"ADE_{split}_{number:08d}"
        places = Path(f"images/{long_split}/{image_id}.jpg"), Path(f"ade20k_panoptic_{split}/{image_id}.png")
        return image_id, *places, f"{image_id}.jpg"
    image_id = f"-{number}abcDEF"
    places = Path(f"{long_split}/images/{image_id}.jpg"), Path(f"{long_split}/panoptic/{image_id}.png")
    return image_id, *places, f"{image_id}.jpg"


def _json_name(dataset: str, split: str) -> str:
    long_split = LONG_SPLITS[split]
    return {
        "coco": f"annotations/panoptic_{split}2017.json",
        "cityscapes": f"gtFine/cityscapes_panoptic_{split}.json",
        "ade20k": f"ade20k_panoptic_{split}.json",
        "mapillary": f"{long_split}/panoptic/panoptic_2018.json",
    }[dataset]


def _segments(
    categories: Sequence[dict[str, Any]], generator: np.random.Generator
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Three strips of different classes, as RGB ids and `segments_info`."""
    ids, segments = np.zeros((*SIZE, 3), dtype=np.uint8), []
    for number, label in enumerate(generator.choice(len(categories), 3, replace=False).tolist(), start=1):
        left, width = 16 * (number - 1), 16
        ids[:, left : left + width, 0] = number
        segments.append(
            {
                "id": number,
                "category_id": categories[label]["id"],
                "area": SIZE[0] * width,
                "bbox": [left, 0, width, SIZE[0]],
                "iscrowd": 0,
            }
        )
    return ids, segments


def _save(image: Image.Image, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    image.save(file)
