"""Training log as JSON lines."""

import json
from pathlib import Path
from typing import Any


class JsonLinesLog:
    """
    Appends one JSON object a line.

    Args:
        file: made if missing.
        start_step: a resumed run's step; lines of later steps, left by the interrupted run, are removed.
    """

    def __init__(self, file: str | Path, start_step: int = 0):
        self.file = Path(file)
        kept = [line for line in self._lines() if json.loads(line)["step"] <= start_step] if start_step else []
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text("".join(line + "\n" for line in kept))

    def append(self, step: int, **values: Any) -> None:
        """Writes `values` of `step` and flushes."""
        with self.file.open("a") as stream:
            stream.write(json.dumps({"step": step, **values}) + "\n")

    def _lines(self) -> list[str]:
        if not self.file.is_file():
            return []
        return [line for line in self.file.read_text().splitlines() if line.endswith("}")]
