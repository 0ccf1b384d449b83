"""One step of the optimiser: passes over the parts of a global batch, their exact losses, one move of the weights."""

from contextlib import nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from .divergence import StepStart, check_finite
from .ema import ExponentialMovingAverage
from .full_weights import full_tensor
from .loss_normalization import loss_shares, share_of_losses


class OptimizerStep:
    """
    Runs a global batch forward and backward and moves the weights.

    Args:
        model, optimizer: prepared by the accelerator.
        schedule: of the optimiser.
        accelerator: of the run.
        max_grad_norm: the whole model's gradient is clipped to it.
        ema: moving average of the weights, if wanted.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        schedule: LRScheduler,
        accelerator: Accelerator,
        max_grad_norm: float,
        ema: ExponentialMovingAverage | None = None,
    ):
        self.model, self.optimizer, self.schedule, self.accelerator = model, optimizer, schedule, accelerator
        self.max_grad_norm, self.ema = max_grad_norm, ema
        self.config = accelerator.unwrap_model(model, keep_torch_compile=False).config
        self.start = StepStart(model)

    def __call__(self, batches: list[dict[str, Any]], step: int) -> dict[str, Tensor]:
        """
        Args:
            batches: the accumulated passes of this process, as `PanopticCollator` makes them, with `point_seeds`.
            step: number of the step, for messages.

        Returns:
            This process's share of the global losses (their mean over the processes is the global loss), detached:
            `loss`, its parts and `gradient_norm`.

        Raises:
            TrainingDiverged: a loss or the gradient is not finite in any process; the weights have not moved.
        """
        self.start.keep()
        file_names = [name for batch in batches for name in batch.pop("file_names")]
        shares = loss_shares(
            [batch["class_labels"] for batch in batches],
            self.config.num_queries,
            self.config.no_object_weight,
            self.accelerator,
        )
        totals: dict[str, Tensor] = {}
        for index, (batch, class_factor) in enumerate(zip(batches, shares.class_factors, strict=True)):
            synchronise = index == len(batches) - 1
            with nullcontext() if synchronise else self.accelerator.no_sync(self.model):
                losses = self._losses(batch, shares.num_masks, class_factor, len(batches))
                self.accelerator.backward(losses["loss"])
            for name, value in losses.items():
                totals[name] = totals.get(name, 0) + value.detach()
        gradient_norm = full_tensor(self.accelerator.clip_grad_norm_(self.model.parameters(), self.max_grad_norm))
        check_finite(totals, gradient_norm, file_names, step, self.accelerator)
        self._move()
        return {**totals, "gradient_norm": gradient_norm}

    def undo(self) -> None:
        """After `TrainingDiverged`: takes back what the failed passes did to statistics, generators and gradients."""
        self.start.restore()
        self.optimizer.zero_grad()

    def _losses(
        self, batch: dict[str, Any], num_masks: float, class_factor: float, num_passes: int
    ) -> dict[str, Tensor]:
        inputs = {name: _to_device(value, self.accelerator.device) for name, value in batch.items()}
        outputs = self.model(**inputs, num_items_in_batch=num_masks)
        parts = share_of_losses(outputs.loss_dict, class_factor)
        parts = {name: value / num_passes for name, value in parts.items()}
        return {"loss": sum(parts.values()), **parts}

    def _move(self) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad()
        if not self.accelerator.optimizer_step_was_skipped:
            self.schedule.step()
            if self.ema is not None:
                self.ema.update(self.accelerator.unwrap_model(self.model, keep_torch_compile=False))


def _to_device(value: Any, device: torch.device) -> Any:
    if isinstance(value, list):
        return [_to_device(item, device) for item in value]
    return value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
