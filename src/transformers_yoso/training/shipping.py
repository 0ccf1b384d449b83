"""A finished model as a folder that others can use: weights, processor, code, model card and how it was trained."""

import shutil
from pathlib import Path
from typing import Any

from torch import nn

from ..model_card import push_folder_to_hub, write_model_card
from .arguments import OutputArguments, TrainingRun
from .model_setup import save_model_folder
from .run_record import ARGUMENTS_FILE, RECORD_FILE


def ship_model(
    model: nn.Module, image_processor: Any, folder: Path, run: TrainingRun, run_dir: Path, result: dict[str, Any]
) -> None:
    """
    Fills `folder`.

    Args:
        model: on any device.
        image_processor: saved with it.
        folder: exists and is empty.
        run: resolved arguments.
        run_dir: where `arguments.json`, `run.json` and `log.jsonl` lie, for the model card.
        result: the model's evaluation.
    """
    save_model_folder(model, image_processor, folder, run.output.save_half_precision)
    for name in (ARGUMENTS_FILE, RECORD_FILE):
        shutil.copy(run_dir / name, folder / name)
    write_model_card(folder, evaluation=result, run_dir=run_dir, title=run_dir.resolve().name)


def push_best_model(output: OutputArguments) -> str:
    """Uploads `output_dir/best` to `hub_model_id` and returns its address."""
    return push_folder_to_hub(Path(output.output_dir) / "best", output.hub_model_id, token=output.hub_token)
