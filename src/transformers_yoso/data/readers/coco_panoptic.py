"""Reader of the COCO panoptic format: a folder of photos, a folder of PNG id maps and one JSON file."""

from collections import Counter
from pathlib import Path
from typing import Any

from ..categories import CategoryTable
from .base import PanopticDataset
from .coco_json import read_coco_json, require_files, require_folder
from .decoding import decode_panoptic_png, decode_photo
from .records import PanopticRecord, segment_problems


class CocoPanopticDataset(PanopticDataset):
    """
    Samples of one split in COCO panoptic format.

    Segment order of a sample is the order of its `segments_info`, with those that have no pixel.

    Args:
        image_folder: folder of the photos.
        png_folder: folder of the PNG maps, id = R + 256 G + 65536 B, 0 for void.
        json_file: file with `images`, `annotations` and `categories`.
        validate: raise at the first fault of the annotations. The dataset checker, which lists all, passes False;
            annotations that name no photo or no map are then left out.

    Raises:
        FileNotFoundError: a folder, the JSON file, or a photo or map that it names is missing.
        ValueError: the JSON lacks a key, names an unknown category, or an annotation without an image.
    """

    def __init__(
        self, image_folder: str | Path, png_folder: str | Path, json_file: str | Path, *, validate: bool = True
    ):
        self.image_folder, self.png_folder, self.json_file = Path(image_folder), Path(png_folder), Path(json_file)
        self.source = str(self.json_file)
        content = read_coco_json(self.json_file)
        self.categories = CategoryTable.from_json(content["categories"], self.source)
        self._images = {image["id"]: image for image in content["images"]}
        self._listed = content["annotations"]
        self.annotations = [annotation for annotation in self._listed if not self._outer_problem(annotation)]
        self.image_names = [self._images[annotation["image_id"]]["file_name"] for annotation in self.annotations]
        require_folder(self.image_folder, self.json_file)
        require_folder(self.png_folder, self.json_file)
        if validate:
            self._require_sound_annotations()

    @classmethod
    def from_folder(cls, dataset_dir: str | Path, split: str, *, validate: bool = True) -> "CocoPanopticDataset":
        """
        Opens `{split}`, `panoptic_{split}` and `panoptic_{split}.json` of a folder.

        Map folder and JSON may also lie in `annotations`, as COCO's own archives unpack.
        """
        folder = Path(dataset_dir)
        png_folder, json_file = folder / f"panoptic_{split}", folder / f"panoptic_{split}.json"
        nested = folder / "annotations"
        if not json_file.exists() and (nested / json_file.name).exists():
            json_file = nested / json_file.name
        if not png_folder.exists() and (nested / png_folder.name).exists():
            png_folder = nested / png_folder.name
        return cls(folder / split, png_folder, json_file, validate=validate)

    def __len__(self) -> int:
        return len(self.annotations)

    def read_record(self, index: int) -> PanopticRecord:
        annotation = self.annotations[index]
        image = self._images[annotation["image_id"]]
        image_file = self.image_folder / self.image_names[index]
        png_file = self.png_folder / annotation["file_name"]
        return PanopticRecord(
            photo=decode_photo(image_file, str(image_file)),
            ids=decode_panoptic_png(png_file, str(png_file)),
            segments_info=annotation["segments_info"],
            image_id=annotation["image_id"],
            file_name=str(image_file),
            map_name=str(png_file),
            listed_size=(image["height"], image["width"]) if {"height", "width"} <= image.keys() else None,
        )

    def annotation_problems(self) -> list[str]:
        times = Counter(annotation.get("image_id") for annotation in self._listed)
        doubled = [image_id for image_id, count in times.items() if count > 1]
        return [
            *filter(None, map(self._outer_problem, self._listed)),
            *(f"image id {image_id} has more than one annotation." for image_id in doubled if image_id is not None),
        ]

    def _outer_problem(self, annotation: dict[str, Any]) -> str | None:
        missing = [key for key in ("image_id", "file_name", "segments_info") if key not in annotation]
        if missing:
            return f"an annotation lacks {missing}: {str(annotation)[:200]}"
        if annotation["image_id"] not in self._images:
            return (
                f"annotation {annotation['file_name']} belongs to image id {annotation['image_id']}, "
                "which `images` does not list."
            )
        return None

    def _require_sound_annotations(self) -> None:
        """Raises at the first fault that shows without decoding a picture."""
        for problem in self.annotation_problems():
            raise ValueError(f"{self.json_file}: {problem}")
        for annotation in self.annotations:
            for problem in segment_problems(annotation["segments_info"], self.categories):
                raise ValueError(f"{self.json_file}: annotation {annotation['file_name']}: {problem}")
        require_files(self.image_folder, self.image_names, self.json_file)
        require_files(self.png_folder, [item["file_name"] for item in self.annotations], self.json_file)
