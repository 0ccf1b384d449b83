"""Everything a run needs to go on exactly where it stopped, into a checkpoint folder and back."""

import json
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, gather_object
from safetensors.torch import load_file
from torch import nn
from torch.optim.lr_scheduler import LRScheduler
from transformers.utils import SAFE_WEIGHTS_NAME

from .ema import ExponentialMovingAverage
from .model_setup import save_model_folder

STATE_FILE = "trainer_state.json"


class RunState:
    """
    Model, average, optimiser, gradient scaler, schedule and the random generators of every process.

    A checkpoint folder is also a model folder, from which a new run can start, unless FSDP has spread the weights.

    Args:
        accelerator: has prepared model and optimiser.
        model: as prepared.
        schedule: of the optimiser.
        ema: moving average, if there is one.
        image_processor: saved beside the weights.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        model: nn.Module,
        schedule: LRScheduler,
        ema: ExponentialMovingAverage | None,
        image_processor: Any,
    ):
        self.accelerator, self.model, self.schedule, self.ema = accelerator, model, schedule, ema
        self.image_processor = image_processor
        if accelerator.distributed_type != DistributedType.FSDP:
            accelerator.register_save_state_pre_hook(self._save_weights)
            accelerator.register_load_state_pre_hook(self._load_weights)

    def save(self, folder: Path, progress: dict[str, Any], position: dict[str, int]) -> None:
        """
        Writes into `folder`; every process must call it.

        Args:
            progress: goes into `trainer_state.json`, which makes a folder a checkpoint.
            position: of this process in the data.
        """
        positions = gather_object([position])
        self.accelerator.save_state(str(folder))
        if not self.accelerator.is_main_process:
            return
        torch.save(self.schedule.state_dict(), folder / "schedule.pt")
        if self.ema is not None:
            torch.save(self.ema.state_dict(), folder / "ema.pt")
        state = {**progress, "num_processes": self.accelerator.num_processes, "positions": positions}
        (folder / STATE_FILE).write_text(json.dumps(state, indent=2) + "\n")

    def load(self, folder: Path, fixed_arguments: dict[str, Any]) -> tuple[dict[str, Any], dict[str, int]]:
        """
        Puts everything back as it was; every process must call it.

        Args:
            folder: a checkpoint.
            fixed_arguments: of this run; must equal those of the checkpoint, under `recipe` in its `progress`.

        Returns:
            `progress` as it was saved, and this process's position in the data.

        Raises:
            ValueError: the checkpoint belongs to another recipe or number of processes.
        """
        state = json.loads((folder / STATE_FILE).read_text())
        self._check_same_run(folder, state, fixed_arguments)
        self.schedule.load_state_dict(torch.load(folder / "schedule.pt", weights_only=True))
        if self.ema is not None:
            self.ema.load_state_dict(torch.load(folder / "ema.pt", map_location="cpu", weights_only=True))
        self.accelerator.load_state(str(folder))
        return state, state["positions"][self.accelerator.process_index]

    def _check_same_run(self, folder: Path, state: dict[str, Any], fixed_arguments: dict[str, Any]) -> None:
        if state["num_processes"] != self.accelerator.num_processes:
            raise ValueError(
                f"{folder} was written by {state['num_processes']} processes and this run has "
                f"{self.accelerator.num_processes}; resume with the same number, or start a new run from its weights "
                "with --model_name_or_path."
            )
        here = json.loads(json.dumps(fixed_arguments))
        # Arguments that there were not yet when the checkpoint was written are free.
        there = {**here, **state["recipe"]}
        differing = [name for name, value in here.items() if there[name] != value]
        if differing:
            changes = ", ".join(f"{name} {there[name]} -> {here[name]}" for name in differing)
            raise ValueError(
                f"{folder} belongs to another recipe ({changes}). Resume with the same arguments, or start a new run "
                "from its weights with --model_name_or_path."
            )

    def _save_weights(self, models: list[nn.Module], weights: list[dict[str, Any]], folder: str) -> None:
        """Accelerate's hook: saves the plain model (DDP's own names have a prefix) instead of `weights`."""
        if self.accelerator.is_main_process:
            save_model_folder(self._plain_model(), self.image_processor, Path(folder), half_precision=False)
        weights.clear()

    def _load_weights(self, models: list[nn.Module], folder: str) -> None:
        self._plain_model().load_state_dict(load_file(Path(folder) / SAFE_WEIGHTS_NAME))
        models.clear()

    def _plain_model(self) -> nn.Module:
        return self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
