"""Reader of COCO's instance format: a folder of photos and one JSON file with polygons or run lengths, things only."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from ..categories import CategoryTable
from ..sample import PanopticSample, drop_empty_segments
from .base import PanopticDataset
from .coco_json import read_coco_json, require_files, require_folder, shown_content
from .decoding import decode_photo
from .records import PanopticRecord


class CocoInstancesDataset(PanopticDataset):
    """
    Samples of one split with instance masks only; every category is a thing and unmasked pixels are void.

    Where masks overlap, the smaller one lies on top; masks that are hidden altogether are left out. Segment order of a
    sample is the order of its annotations. Photos without an annotation are samples without segments. Needs
    `pycocotools`.

    Args:
        image_folder: folder of the photos.
        json_file: file with `images`, `annotations` (`segmentation`: polygons or run lengths) and `categories`.
        validate: as in [`CocoPanopticDataset`].

    Attributes:
        images, annotations: the file's lists.

    Raises:
        FileNotFoundError: the folder, the JSON file or a photo that it names is missing.
        ValueError: the JSON lacks a key, names an unknown category, or an annotation without an image.
    """

    def __init__(self, image_folder: str | Path, json_file: str | Path, *, validate: bool = True):
        self.image_folder, self.json_file = Path(image_folder), Path(json_file)
        self.source = str(self.json_file)
        content = read_coco_json(self.json_file)
        things = [{**category, "isthing": 1} for category in content["categories"]]
        self.categories = CategoryTable.from_json(things, self.source)
        self.images: list[dict[str, Any]] = content["images"]
        if incomplete := [
            image for image in self.images if not {"id", "file_name", "height", "width"} <= image.keys()
        ]:
            raise ValueError(f"{self.source}: an image lacks `id`, `file_name`, `height` or `width`: {incomplete[0]}.")
        self.annotations = content["annotations"]
        self._annotations_of: dict[Any, list[dict[str, Any]]] = defaultdict(list)
        for annotation in self.annotations:
            if {"image_id", "category_id", "segmentation"} <= annotation.keys():
                self._annotations_of[annotation["image_id"]].append(annotation)
        require_folder(self.image_folder, self.json_file)
        if validate:
            self._require_sound_annotations()

    @classmethod
    def from_folder(cls, dataset_dir: str | Path, split: str, *, validate: bool = True) -> "CocoInstancesDataset":
        """Opens `{split}` and `instances_{split}.json` of a folder; the JSON may also lie in `annotations`.

        Raises:
            FileNotFoundError: the JSON is in neither place.
        """
        folder, name = Path(dataset_dir), f"instances_{split}.json"
        json_file = next((file for file in (folder / name, folder / "annotations" / name) if file.exists()), None)
        if json_file is None:
            raise FileNotFoundError(f"Expected {name} in {folder} or its annotations/; {shown_content(folder)}.")
        return cls(folder / split, json_file, validate=validate)

    def __len__(self) -> int:
        return len(self.images)

    def read_record(self, index: int) -> PanopticRecord:
        image = self.images[index]
        image_file = self.image_folder / image["file_name"]
        where = f"{self.source}: photo {image['file_name']}"
        annotations = self._annotations_of.get(image["id"], [])
        masks = [_decode_mask(item, image["height"], image["width"], where) for item in annotations]
        return PanopticRecord(
            photo=decode_photo(image_file, str(image_file)),
            ids=paint_masks(masks, image["height"], image["width"]),
            segments_info=[
                {"id": k, "category_id": item["category_id"], "iscrowd": item.get("iscrowd", 0)}
                for k, item in enumerate(annotations, start=1)
            ],
            image_id=image["id"],
            file_name=str(image_file),
            map_name=where,
            listed_size=(image["height"], image["width"]),
        )

    def __getitem__(self, index: int) -> PanopticSample:
        return drop_empty_segments(super().__getitem__(index))

    def annotation_problems(self) -> list[str]:
        known = {image["id"] for image in self.images}
        problems = []
        for annotation in self.annotations:
            name = f"annotation {annotation.get('id', '(without id)')}"
            if missing := [key for key in ("image_id", "category_id", "segmentation") if key not in annotation]:
                problems.append(f"{name} lacks {missing}: {str(annotation)[:200]}")
            elif annotation["image_id"] not in known:
                problems.append(f"{name} belongs to image id {annotation['image_id']}, which `images` does not list.")
        return problems

    def _require_sound_annotations(self) -> None:
        """Raises at the first fault that shows without decoding a picture."""
        for problem in self.annotation_problems():
            raise ValueError(f"{self.source}: {problem}")
        for annotation in self.annotations:
            if annotation["category_id"] not in self.categories.label_of_category:
                raise ValueError(
                    f"{self.source}: annotation {annotation.get('id')} has category {annotation['category_id']}, which "
                    "`categories` does not list."
                )
        require_files(self.image_folder, [image["file_name"] for image in self.images], self.json_file)


def paint_masks(masks: list[np.ndarray], height: int, width: int) -> np.ndarray:
    """Id map int32 `(height, width)` with `k + 1` where `masks[k]` (bool) is on top: larger ones are painted first."""
    ids = np.zeros((height, width), dtype=np.int32)
    areas = [int(mask.sum()) for mask in masks]
    for k in sorted(range(len(masks)), key=lambda k: -areas[k]):
        ids[masks[k]] = k + 1
    return ids


def _decode_mask(annotation: dict[str, Any], height: int, width: int, where: str) -> np.ndarray:
    from pycocotools import mask as mask_utils

    segmentation = annotation["segmentation"]
    try:
        if isinstance(segmentation, list):
            run_lengths = mask_utils.merge(mask_utils.frPyObjects(segmentation, height, width))
        elif isinstance(segmentation["counts"], list):
            run_lengths = mask_utils.frPyObjects(segmentation, height, width)
        else:
            run_lengths = segmentation
        mask = mask_utils.decode(run_lengths).astype(bool)
    except Exception as error:  # pycocotools raises plain `Exception` on forms that it does not know
        raise ValueError(
            f"{where}: the mask of annotation {annotation.get('id')} cannot be decoded ({error})."
        ) from error
    if mask.shape != (height, width):
        raise ValueError(
            f"{where}: the mask of annotation {annotation.get('id')} is {mask.shape[0]}x{mask.shape[1]} but the photo "
            f"{height}x{width} (height x width)."
        )
    return mask
