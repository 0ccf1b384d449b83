"""A job that predicts shards into a folder in COCO panoptic format, each shard at once or not at all."""

import json
import os
import shutil
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ..inference import FailedPrediction, Prediction, YosoPredictor
from ..inference.coco import png_stem
from .shards import Photo, Shard

UNFINISHED = ".unfinished-"
SHARD_FILE, SETTINGS_FILE, MERGED_FILE = "shard.json", "job.json", "panoptic.json"


class PredictionJob:
    """
    `FOLDER/panoptic/SHARD/*.png` with a `shard.json` each, and at the end `FOLDER/panoptic.json` of all.

    A shard's folder appears whole, by renaming, and is never written again. The files depend neither on the number of
    processes nor on how often the job was killed.

    Args:
        folder: is made if it is missing.
        shards: of the whole dataset, in the same order at every start.
        settings: what the results depend on, as JSON can hold it; a folder of other settings is refused.

    Raises:
        ValueError: the folder belongs to a job with other shards or settings.
    """

    def __init__(self, folder: str | Path, shards: Sequence[Shard], settings: Mapping[str, Any]):
        self.folder, self.shards = Path(folder), list(shards)
        self.settings = {**settings, "shards": [f"{shard.name} {shard.contents}".rstrip() for shard in shards]}
        self.png_folder = self.folder / "panoptic"
        self._check_settings()

    def prepare(self) -> list[str]:
        """Clears what a killed job left and names the shards that are missing; for one process, before all others."""
        self.png_folder.mkdir(parents=True, exist_ok=True)
        for leftover in self.png_folder.glob(f"{UNFINISHED}*"):
            shutil.rmtree(leftover)
        write_json(self.folder / SETTINGS_FILE, self.settings)
        return self.missing()

    def missing(self) -> list[str]:
        """Names of the shards that are not predicted yet, in order."""
        return [shard.name for shard in self.shards if not (self.png_folder / shard.name).is_dir()]

    def predict(
        self,
        predictor: YosoPredictor,
        name: str,
        *,
        category_ids: Mapping[int, int] | None = None,
        batch_size: int = 1,
        num_workers: int = 2,
        on_photo: Callable[[], Any] = lambda: None,
    ) -> None:
        """
        Predicts a shard.

        Args:
            predictor: the model.
            name: of the shard.
            category_ids: category id by label id; by default the label ids.
            batch_size, num_workers: of `YosoPredictor.stream`.
            on_photo: called after every photo.
        """
        shard = next(shard for shard in self.shards if shard.name == name)
        unfinished = self.png_folder / f"{UNFINISHED}{name}"
        unfinished.mkdir()
        content: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": [], "failed": []}
        for photo, result in predict_photos(predictor, shard, batch_size, num_workers):
            if isinstance(result, FailedPrediction):
                content["failed"].append({"file_name": photo.file_name, "error": str(result.error)})
            else:
                self._add(content, photo, result, unfinished, category_ids)
            on_photo()
        write_json(unfinished / SHARD_FILE, content)
        unfinished.rename(self.png_folder / name)

    def merge(self, categories: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """
        Writes `panoptic.json` with the `images`, `annotations` and `categories` of all shards.

        Returns:
            Its content, with `failed`: `file_name` and `error` of the photos that could not be read.

        Raises:
            ValueError: a shard is missing, or two photos have one id.
        """
        if missing := self.missing():
            raise ValueError(f"{self.folder}: {len(missing)} shards are not predicted yet, the first is {missing[0]}.")
        parts = [json.loads((self.png_folder / shard.name / SHARD_FILE).read_text()) for shard in self.shards]
        merged = {key: [item for part in parts for item in part[key]] for key in ("images", "annotations")}
        times = Counter(image["id"] for image in merged["images"])
        if doubles := [image_id for image_id, count in times.items() if count > 1]:
            raise ValueError(f"{self.folder}: the image ids {doubles[:10]} belong to more than one photo each.")
        merged["categories"] = list(categories)
        write_json(self.folder / MERGED_FILE, merged)
        return {**merged, "failed": [item for part in parts for item in part["failed"]]}

    def _add(
        self,
        content: dict[str, list[dict[str, Any]]],
        photo: Photo,
        prediction: Prediction,
        folder: Path,
        category_ids: Mapping[int, int] | None,
    ) -> None:
        shard_name = folder.name.removeprefix(UNFINISHED)
        file_name = f"{png_stem(photo.image_id)}.png"
        annotation, rgb = prediction.to_coco(photo.image_id, f"{shard_name}/{file_name}", category_ids)
        Image.fromarray(rgb).save(folder / file_name)
        height, width = prediction.size
        content["images"].append(
            {"id": photo.image_id, "file_name": photo.file_name, "height": height, "width": width}
        )
        content["annotations"].append(annotation)

    def _check_settings(self) -> None:
        file = self.folder / SETTINGS_FILE
        if not file.is_file():
            return
        saved, wanted = json.loads(file.read_text()), json.loads(json.dumps(self.settings))
        differing = sorted(key for key in saved.keys() | wanted.keys() if saved.get(key) != wanted.get(key))
        if differing:
            shown = "; ".join(f"{key}: {_shown(saved.get(key))}, now {_shown(wanted.get(key))}" for key in differing)
            raise ValueError(
                f"{self.folder} holds a job with other settings ({shown}). Give the same to go on with it, or another "
                "output folder."
            )


def predict_photos(
    predictor: YosoPredictor, shard: Shard, batch_size: int, num_workers: int
) -> Iterator[tuple[Photo, Prediction | FailedPrediction]]:
    """Every photo of a shard with its result, in order."""
    waiting: deque[Photo] = deque()

    def sources() -> Iterator[Any]:
        for photo in shard:
            waiting.append(photo)
            yield photo.source

    stream = predictor.stream(sources(), batch_size=batch_size, num_workers=num_workers, on_error="return")
    for result in stream:
        yield waiting.popleft(), result


def write_json(file: Path, content: Any) -> None:
    """Writes a file that is whole or absent, whoever else writes it."""
    unfinished = file.with_name(f"{UNFINISHED}{os.getpid()}-{file.name}")
    unfinished.write_text(json.dumps(content) + "\n", encoding="utf-8")
    unfinished.replace(file)


def _shown(setting: Any) -> str:
    return f"{len(setting)} from {setting[0]} on" if isinstance(setting, list) and len(setting) > 4 else str(setting)
