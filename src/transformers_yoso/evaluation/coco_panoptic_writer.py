"""Predictions as files in COCO panoptic form, which `panopticapi` and our own reader open."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from accelerate.utils import gather_object
from PIL import Image

from ..data import CategoryTable
from ..inference.coco import ids_to_rgb, png_stem
from .prediction import Prediction


class CocoPanopticWriter:
    """
    Writes a PNG per image (id = R + 256 G + 65536 B, 0 for void) into `{folder}/{name}` and `{folder}/{name}.json`.

    Args:
        folder: is made if it is missing.
        name: of the PNG folder and the JSON file, for example "panoptic_val".
        categories: of the dataset; the JSON holds its category ids.
    """

    def __init__(self, folder: str | Path, name: str, categories: CategoryTable):
        self.png_folder, self.json_file = Path(folder) / name, Path(folder) / f"{name}.json"
        self.png_folder.mkdir(parents=True, exist_ok=True)
        self.categories = categories
        self.category_of_label = {label: category for category, label in categories.label_of_category.items()}
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    def add(self, prediction: Prediction) -> None:
        """Writes the panoptic map of one image."""
        sample, segmentation = prediction.sample, np.asarray(prediction.panoptic["segmentation"])
        file_name = f"{png_stem(sample.image_id)}.png"
        Image.fromarray(ids_to_rgb(segmentation)).save(self.png_folder / file_name)
        height, width = segmentation.shape
        self._images.append(
            {"id": sample.image_id, "file_name": Path(sample.file_name).name, "height": height, "width": width}
        )
        segments = [
            {
                "id": segment["id"],
                "category_id": self.category_of_label[segment["label_id"]],
                "area": int((segmentation == segment["id"]).sum()),
                "iscrowd": 0,
                "score": segment["score"],
            }
            for segment in prediction.panoptic["segments_info"]
        ]
        self._annotations.append({"image_id": sample.image_id, "file_name": file_name, "segments_info": segments})

    def finish(self, accelerator: Accelerator) -> None:
        """Writes the JSON file with the images of all processes; every process has to call it."""
        images, annotations = gather_object(self._images), gather_object(self._annotations)
        if accelerator.is_main_process:
            content = {
                "images": sorted(images, key=lambda image: str(image["id"])),
                "annotations": sorted(annotations, key=lambda annotation: str(annotation["image_id"])),
                "categories": self.categories.to_json(),
            }
            self.json_file.write_text(json.dumps(content) + "\n", encoding="utf-8")
        accelerator.wait_for_everyone()
