"""Reader of the COCO panoptic format: a folder of photos, a folder of PNG id maps and one JSON file."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from ..models.image_inputs import read_image
from .sample import VOID, PanopticSample, drop_empty_segments

T = TypeVar("T")


@dataclass(frozen=True)
class CategoryTable:
    """
    Contiguous label ids of a dataset's categories, in the order in which the JSON lists them.

    Attributes:
        label_of_category: category id of the JSON -> label id.
        id2label: label id -> name.
        stuff_label_ids: label ids with `isthing == 0`.
    """

    label_of_category: dict[int, int]
    id2label: dict[int, str]
    stuff_label_ids: list[int]

    @classmethod
    def from_json(cls, categories: list[dict[str, Any]], source: str) -> "CategoryTable":
        """Builds the table from the JSON's `categories`; raises `ValueError` naming `source` on a double or empty one."""
        if not categories:
            raise ValueError(f"{source}: `categories` is empty; each needs `id`, `name` and `isthing`.")
        ids = [category["id"] for category in categories]
        doubles = sorted({category_id for category_id in ids if ids.count(category_id) > 1})
        if doubles:
            raise ValueError(f"{source}: category ids {doubles} occur more than once in `categories`.")
        unmarked = [category["id"] for category in categories if "isthing" not in category]
        if unmarked:
            raise ValueError(f"{source}: categories {unmarked} lack `isthing` (1 for things, 0 for stuff).")
        return cls(
            label_of_category={category_id: label for label, category_id in enumerate(ids)},
            id2label={label: category["name"] for label, category in enumerate(categories)},
            stuff_label_ids=[label for label, category in enumerate(categories) if not category["isthing"]],
        )


class CocoPanopticDataset(Dataset):
    """
    Samples of one split in COCO panoptic format.

    Segment order of a sample is the order of its `segments_info`. Listed segments without a pixel are left out.

    Args:
        image_folder: folder of the photos.
        png_folder: folder of the PNG maps, id = R + 256 G + 65536 B, 0 for void.
        json_file: file with `images`, `annotations` and `categories`.

    Raises:
        FileNotFoundError: a folder, the JSON file, or a photo or map that it names is missing.
        ValueError: the JSON lacks a key, names an unknown category, or an annotation without an image.
    """

    def __init__(self, image_folder: str | Path, png_folder: str | Path, json_file: str | Path):
        self.image_folder, self.png_folder, self.json_file = Path(image_folder), Path(png_folder), Path(json_file)
        content = _read_json(self.json_file)
        self.categories = CategoryTable.from_json(content["categories"], str(self.json_file))
        images = {image["id"]: image for image in content["images"]}
        self.annotations = content["annotations"]
        for annotation in self.annotations:
            missing = [key for key in ("image_id", "file_name", "segments_info") if key not in annotation]
            if missing:
                raise ValueError(f"{self.json_file}: an annotation lacks {missing}: {str(annotation)[:200]}")
            if annotation["image_id"] not in images:
                raise ValueError(
                    f"{self.json_file}: annotation {annotation['file_name']} belongs to image id "
                    f"{annotation['image_id']}, which `images` does not list."
                )
            self._check_segments(annotation)
        self.image_names = [images[annotation["image_id"]]["file_name"] for annotation in self.annotations]
        _check_files(self.image_folder, self.image_names, str(self.json_file))
        _check_files(
            self.png_folder, [annotation["file_name"] for annotation in self.annotations], str(self.json_file)
        )

    @classmethod
    def from_folder(cls, dataset_dir: str | Path, split: str) -> "CocoPanopticDataset":
        """Opens `{dataset_dir}/{split}`, `{dataset_dir}/panoptic_{split}` and `{dataset_dir}/panoptic_{split}.json`."""
        folder = Path(dataset_dir)
        return cls(folder / split, folder / f"panoptic_{split}", folder / f"panoptic_{split}.json")

    def __len__(self) -> int:
        return len(self.annotations)

    def __getitem__(self, index: int) -> PanopticSample:
        """Decodes sample `index`; raises `ValueError` naming the file that cannot be read or does not fit."""
        annotation = self.annotations[index]
        image_file = self.image_folder / self.image_names[index]
        png_file = self.png_folder / annotation["file_name"]
        image = _decode(image_file, read_image)
        ids = rgb_to_id(_decode(png_file, lambda png: np.array(png.convert("RGB"))))
        if image.shape[1:] != ids.shape:
            raise ValueError(
                f"{png_file}: the id map is {ids.shape[0]}x{ids.shape[1]} but its photo {image_file} is "
                f"{image.shape[1]}x{image.shape[2]} (height x width)."
            )
        segments = annotation["segments_info"]
        segment_map = compact_segment_map(ids, [segment["id"] for segment in segments], str(png_file))
        labels = [self.categories.label_of_category[segment["category_id"]] for segment in segments]
        return drop_empty_segments(
            PanopticSample(
                image=image,
                segment_map=torch.from_numpy(segment_map),
                class_labels=torch.tensor(labels, dtype=torch.int64),
                is_crowd=torch.tensor([bool(segment.get("iscrowd", 0)) for segment in segments], dtype=torch.bool),
                image_id=annotation["image_id"],
                file_name=str(image_file),
            )
        )

    def _check_segments(self, annotation: dict[str, Any]) -> None:
        where = f"{self.json_file}: annotation {annotation['file_name']}"
        segments = annotation["segments_info"]
        for segment in segments:
            if segment["category_id"] not in self.categories.label_of_category:
                raise ValueError(
                    f"{where}: segment {segment['id']} has category {segment['category_id']}, "
                    "which `categories` does not list."
                )
        ids = [segment["id"] for segment in segments]
        if len(set(ids)) != len(ids) or 0 in ids:
            raise ValueError(f"{where}: segment ids must be unique and not 0 (0 means void), got {sorted(ids)}.")


def rgb_to_id(rgb: np.ndarray) -> np.ndarray:
    """COCO panoptic colour `(height, width, 3)` uint8 to segment id `R + 256 G + 65536 B`, int32 `(height, width)`."""
    channels = rgb.astype(np.int32)
    return channels[..., 0] + 256 * channels[..., 1] + 65536 * channels[..., 2]


def compact_segment_map(ids: np.ndarray, segment_ids: list[int], source: str) -> np.ndarray:
    """
    Renumbers an id map by position in `segment_ids`.

    Args:
        ids: integer `(height, width)`, 0 for void.
        segment_ids: the ids that may occur.
        source: file name for the error message.

    Returns:
        int32 `(height, width)` with `k` where `ids == segment_ids[k]` and -1 at void.

    Raises:
        ValueError: `ids` holds an id that `segment_ids` lacks.
    """
    known = np.array([0, *segment_ids], dtype=np.int64)
    order = np.argsort(known)
    position = np.searchsorted(known, ids, sorter=order).clip(max=len(known) - 1)
    index = order[position]
    strangers = np.unique(ids[known[index] != ids])
    if len(strangers):
        raise ValueError(f"{source}: ids {strangers[:10].tolist()} in the map are absent from its `segments_info`.")
    return (index + VOID).astype(np.int32)


def _decode(file: Path, convert: Callable[[Image.Image], T]) -> T:
    try:
        with Image.open(file) as image:
            return convert(image)
    except (OSError, ValueError, SyntaxError) as error:
        raise ValueError(f"{file}: cannot be decoded ({error}).") from error


def _read_json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such annotation file.")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{file}: not valid JSON ({error}).") from error
    missing = [key for key in ("images", "annotations", "categories") if key not in content]
    if missing:
        raise ValueError(f"{file}: lacks {missing}; COCO panoptic files have `images`, `annotations`, `categories`.")
    return content


def _check_files(folder: Path, names: list[str], source: str) -> None:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder (needed for {source}).")
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise FileNotFoundError(
            f"{folder}: {len(missing)} of {len(names)} files named in {source} are missing: {shown}"
        )
