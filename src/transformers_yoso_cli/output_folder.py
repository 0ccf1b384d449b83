"""Where `yoso predict` writes, and under which names."""

import tempfile
from pathlib import Path

from transformers_yoso.inference import OutputError
from transformers_yoso.inference.errors import one_line


class OutputFolder:
    """
    A folder, with names that no two inputs share.

    Raises:
        OutputError: it cannot be made or written.
    """

    def __init__(self, path: Path):
        self.path = path
        self._taken: set[str] = set()
        try:
            path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=path):
                pass
        except OSError as error:
            raise OutputError(f"Cannot write into the folder {path} ({one_line(error)}).") from error

    def unique_stem(self, source: str | int) -> str:
        """Stem of the files made from a photo, video or camera: `photo`, for another file of that name `photo_2`."""
        first = f"camera{source}" if isinstance(source, int) else Path(source).stem
        stem, number = first, 1
        while stem.lower() in self._taken:
            number += 1
            stem = f"{first}_{number}"
        self._taken.add(stem.lower())
        return stem
