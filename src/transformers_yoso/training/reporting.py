"""What a run shows of itself: progress bar, JSON-lines log and trackers, in the main process only."""

import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm

from .checkpointing import explained_write_errors
from .json_log import JsonLinesLog
from .memory import peak_memory


class RunReport:
    """
    Args:
        log_file: JSON lines; those of steps after `start_step` are removed.
        start_step, max_train_steps: of the progress bar.
        accelerator: whose trackers, if any, get the same numbers.
    """

    def __init__(self, log_file: Path, start_step: int, max_train_steps: int, accelerator: Accelerator):
        self.accelerator, self.max_train_steps = accelerator, max_train_steps
        self.window: list[dict[str, Tensor]] = []
        is_main = accelerator.is_main_process
        self.log = JsonLinesLog(log_file, start_step) if is_main else None
        self.bar = tqdm(
            total=max_train_steps,
            initial=start_step,
            disable=not is_main,
            dynamic_ncols=True,
            mininterval=0.5 if sys.stderr.isatty() else 60,
        )

    def add_step(self, losses: dict[str, Tensor]) -> None:
        """Keeps the losses of a step for the next `log_losses`, without waiting for the device."""
        self.window.append(losses)
        self.bar.update()

    def log_losses(self, step: int, images: int, seconds: float, learning_rate: float, **values: Any) -> None:
        """
        Writes the mean losses since the last call; every process must call it.

        Args:
            step: optimiser steps done.
            images: of all processes since the last call.
            seconds: in which they were trained on.
            learning_rate: of the head.
            values: more to write.
        """
        names = list(self.window[0])
        means = torch.stack([torch.stack([losses[name].float() for name in names]) for losses in self.window]).mean(0)
        means = self.accelerator.reduce(means, "mean").tolist()
        self.window = []
        losses = {name: round(value, 6) for name, value in zip(names, means, strict=True)}
        speed = {
            "learning_rate": learning_rate,
            "images_per_second": round(images / seconds, 2),
            "memory_gib": round(peak_memory(self.accelerator.device), 2),
        }
        self.bar.set_postfix(_summary(losses, speed), refresh=True)
        self._write(step, {**losses, **speed, **values})

    def log_scores(self, step: int, **scores: Any) -> None:
        """Writes an evaluation."""
        shown = {name: value for name, value in scores.items() if not isinstance(value, dict)}
        if self.log is not None:
            self.bar.write(f"step {step}/{self.max_train_steps} {shown}", file=sys.stdout)
        self._write(step, scores)

    def close(self) -> None:
        """Ends the progress bar."""
        self.bar.close()

    def _write(self, step: int, values: dict[str, Any]) -> None:
        if self.log is not None:
            with explained_write_errors(self.log.file):
                self.log.append(step, **values)
        self.accelerator.log({name: value for name, value in values.items() if not isinstance(value, dict)}, step)


def _summary(losses: dict[str, float], speed: dict[str, float]) -> dict[str, str]:
    def total(part: str) -> str:
        return f"{sum(value for name, value in losses.items() if name.endswith(part)):.3f}"

    return {
        "loss": f"{losses['loss']:.3f}",
        "class": total("loss_cross_entropy"),
        "mask": total("loss_mask"),
        "dice": total("loss_dice"),
        "lr": f"{speed['learning_rate']:.2e}",
        "img/s": f"{speed['images_per_second']:.1f}",
        "mem": f"{speed['memory_gib']:.1f}GiB",
    }
