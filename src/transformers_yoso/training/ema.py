"""Exponential moving average of a model's weights, which evaluates better than the last step of a short run."""

import copy
from typing import Any

import torch
from torch import nn

from .full_weights import full_state_dict


class ExponentialMovingAverage:
    """
    Keeps `average = decay * average + (1 - decay) * weights` in a copy of the model.

    In the first steps the decay is `(1 + step) / (10 + step)` where that is smaller, so the random start is forgotten
    soon. Floating point buffers (batch norm statistics) are averaged too, others are copied. The copy is whole in every
    process, also where FSDP spreads the model over them.

    Args:
        model: the model whose weights are followed.
        decay: in (0, 1), for example 0.999.
    """

    def __init__(self, model: nn.Module, decay: float):
        if not 0 < decay < 1:
            raise ValueError(f"`ema_decay` must lie between 0 and 1, got {decay}.")
        self.decay, self.num_updates = decay, 0
        self.model = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Takes in the weights of `model` after an optimiser step; every process must call it."""
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        current = full_state_dict(model)
        for name, average in self.model.state_dict().items():
            if average.is_floating_point():
                average.lerp_(current[name].to(average.dtype), 1 - decay)
            else:
                average.copy_(current[name])
        self.num_updates += 1

    def state_dict(self) -> dict[str, Any]:
        return {"num_updates": self.num_updates, "model": self.model.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.num_updates = state["num_updates"]
        self.model.load_state_dict(state["model"])
