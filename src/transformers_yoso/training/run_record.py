"""`run.json`: what was run on which machine for how long, read by the model card."""

import json
import sys
from pathlib import Path
from typing import Any

from ..model_card import describe_hardware
from .arguments import TrainingRun

RECORD_FILE = "run.json"
ARGUMENTS_FILE = "arguments.json"


def write_record(folder: Path, run: TrainingRun, record: dict[str, Any]) -> None:
    """
    Writes `arguments.json`, the values of all arguments as they were used, and `run.json`.

    Args:
        folder: exists.
        run: resolved.
        record: goes into `run.json`, with command and hardware added.
    """
    record = {**record, "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]), "hardware": describe_hardware()}
    for name, content in ((ARGUMENTS_FILE, run.as_dict()), (RECORD_FILE, record)):
        unfinished = folder / f".{name}"
        unfinished.write_text(json.dumps(content, indent=2) + "\n")
        unfinished.replace(folder / name)


def describe_dataset(training: Any, validation: Any, run: TrainingRun) -> dict[str, Any]:
    """Name and number of photos of the splits, for `run.json`; a streamed split has no known number."""
    data = run.data
    splits = {data.train_split: training, data.validation_split: validation}
    return {
        "name": data.dataset_name or (Path(data.dataset_dir).resolve().name if data.dataset_dir else None),
        "splits": {name: {"num_images": num_samples(split)} for name, split in splits.items()},
    }


def num_samples(dataset: Any) -> int | None:
    """Length of a dataset, None if it is streamed."""
    return len(dataset) if hasattr(dataset, "__len__") else None
