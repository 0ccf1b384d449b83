"""What the page shows and offers for download, from a photo and the values of its controls. Knows no Gradio."""

import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ..inference import CocoPanopticWriter, Prediction, YosoError, YosoPredictor

TABLE_COLUMNS = ("id", "label", "kind", "score", "area %", "box (x0, y0, x1, y1)")


class Thresholds(NamedTuple):
    """Each in [0, 1]; see `YosoPredictor`."""

    threshold: float
    mask_threshold: float
    overlap_mask_area_threshold: float


def saved_thresholds(predictor: YosoPredictor) -> Thresholds:
    """Those that came with the checkpoint."""
    return Thresholds(*(getattr(predictor.image_processor, name) for name in Thresholds._fields))


def used_thresholds(subtask: str) -> tuple[str, ...]:
    """Names of the thresholds that make a difference to a subtask."""
    return {"panoptic": Thresholds._fields, "instance": Thresholds._fields[:2], "semantic": ()}[subtask]


@dataclass(frozen=True)
class PhotoResult:
    """
    Segmentation of one photo.

    Attributes:
        seconds: from the file to the segments.
        folder: holds the files below, and removes them when the result is no longer used.
        map_file, json_file: COCO panoptic format, as `CocoPanopticWriter` has it.
    """

    prediction: Prediction
    seconds: float
    folder: tempfile.TemporaryDirectory
    map_file: Path
    json_file: Path

    @property
    def table(self) -> list[list[str | int]]:
        """A row for each segment, largest first, with the columns of `TABLE_COLUMNS`."""
        height, width = self.prediction.size
        return [
            [
                segment.id,
                segment.label,
                "stuff" if segment.label_id in self.prediction.stuff_label_ids else "thing",
                "" if segment.score is None else f"{segment.score:.2f}",
                f"{100 * segment.area / (height * width):.2f}",
                ", ".join(map(str, segment.box)),
            ]
            for segment in sorted(self.prediction.segments, key=lambda segment: -segment.area)
        ]

    @property
    def summary(self) -> str:
        """One line for a person."""
        height, width = self.prediction.size
        covered = sum(segment.area for segment in self.prediction.segments) / (height * width)
        return (
            f"Segments: {len(self.prediction.segments)}, on {covered:.0%} of {width} x {height} pixels, "
            f"in {self.seconds:.2f} s"
        )


def segment_photo(predictor: YosoPredictor, photo: str, subtask: str, thresholds: Thresholds) -> PhotoResult:
    """
    Segments the photo at a path and writes its map and JSON.

    Raises:
        YosoError: the photo cannot be read; the message calls it by its name, as the person who sent it does.
    """
    start = time.perf_counter()
    try:
        prediction = predictor(photo, subtask=subtask, **thresholds._asdict())
    except YosoError as error:
        raise YosoError(str(error).replace(photo, Path(photo).name)) from error
    seconds = time.perf_counter() - start
    folder = tempfile.TemporaryDirectory(prefix="yoso-demo-")
    name = Path(photo).stem
    with CocoPanopticWriter(
        folder.name, prediction.id2label, prediction.stuff_label_ids, json_name=f"{name}_panoptic.json"
    ) as writer:
        writer.write(prediction)
    return PhotoResult(prediction, seconds, folder, Path(folder.name) / f"{name}.png", writer.json_file)


def load_predictors(checkpoints: Iterable[str | Path], device: str | None = None) -> dict[str, YosoPredictor]:
    """
    Predictors by the names of their folders; folders of one name are called by their paths.

    Raises:
        CheckpointError: no checkpoint, or one of another model.
    """
    folders = list(dict.fromkeys(map(str, checkpoints)))
    names = [Path(folder).name for folder in folders]
    return {
        name if names.count(name) == 1 else folder: YosoPredictor.from_pretrained(folder, device=device)
        for folder, name in zip(folders, names, strict=True)
    }
