"""Files of many predictions, written as they come, so that memory does not grow with their number."""

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from PIL import Image

from . import coco
from .errors import OutputError, one_line
from .prediction import Prediction


class CocoPanopticWriter:
    """
    A folder in COCO panoptic format: a PNG per photo at once, one JSON of all of them at the end.

    Args:
        folder: is made if it is not there.
        id2label: names by label id; label ids become category ids.
        stuff_label_ids: label ids with `isthing == 0`.
        json_name: name of the JSON within the folder.

    Raises:
        OutputError: the folder cannot be made or written.
    """

    def __init__(
        self,
        folder: str | Path,
        id2label: Mapping[int, str],
        stuff_label_ids: list[int],
        json_name: str = "panoptic.json",
    ):
        self.folder, self.json_file = Path(folder), Path(folder) / json_name
        self._categories = coco.categories(id2label, stuff_label_ids)
        self._count = 0
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._json = self.json_file.open("w", encoding="utf-8")
        except OSError as error:
            raise OutputError(f"Cannot write into {folder} ({one_line(error)}).") from error
        self._images = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115  (closed by close())
        self._json.write('{"annotations": [')

    def write(self, prediction: Prediction, file_name: str | None = None, png_name: str | None = None) -> None:
        """Writes the PNG of a prediction, by default named after its photo (`file_name`, or its source)."""
        file_name = file_name or (Path(prediction.source).name if prediction.source else f"{self._count:012d}.jpg")
        annotation, rgb = prediction.to_coco(self._count, png_name or Path(file_name).with_suffix(".png").name)
        height, width = prediction.size
        image = {"id": self._count, "file_name": file_name, "height": height, "width": width}
        try:
            Image.fromarray(rgb).save(self.folder / annotation["file_name"], compress_level=1)
            self._append(self._json, annotation)
        except OSError as error:
            raise OutputError(f"Cannot write into {self.folder} ({one_line(error)}).") from error
        self._append(self._images, image)
        self._count += 1

    def close(self) -> None:
        """Completes the JSON."""
        if self._json.closed:
            return
        with self._json, self._images:
            self._json.write('\n],\n"images": [')
            self._images.seek(0)
            shutil.copyfileobj(self._images, self._json)
            self._json.write(f'\n],\n"categories": {json.dumps(self._categories)}}}\n')

    def _append(self, file: IO[str], entry: dict[str, Any]) -> None:
        file.write((",\n" if self._count else "\n") + json.dumps(entry))

    def __enter__(self) -> "CocoPanopticWriter":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class RleLinesWriter:
    """
    A file with a JSON object per photo and line: `height`, `width`, `segments` (see `Prediction.to_rle`).

    Raises:
        OutputError: the file cannot be written.
    """

    def __init__(self, path: str | Path):
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            self._file = Path(path).open("w", encoding="utf-8")  # noqa: SIM115  (closed by close())
        except OSError as error:
            raise OutputError(f"Cannot write {path} ({one_line(error)}).") from error

    def write(self, prediction: Prediction, **extra: Any) -> None:
        """Writes one line; `extra` comes first in it, by default `file_name` where the photo came as a path."""
        if not extra and prediction.source is not None:
            extra = {"file_name": prediction.source}
        height, width = prediction.size
        line = extra | {"height": height, "width": width, "segments": prediction.to_rle()}
        try:
            self._file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise OutputError(f"Cannot write {self._file.name} ({one_line(error)}).") from error

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> "RleLinesWriter":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
