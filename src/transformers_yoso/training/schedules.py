"""Learning rate schedules of the released recipes: poly and step, each with a short linear warm-up."""

from collections.abc import Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

SCHEDULES = ("poly", "step", "constant")


def build_schedule(
    optimizer: Optimizer,
    name: str,
    num_training_steps: int,
    num_warmup_steps: int,
    milestones: Sequence[int] = (),
    poly_power: float = 0.9,
) -> LambdaLR:
    """
    Makes a schedule that multiplies every group's own learning rate.

    Args:
        optimizer: whose groups are scheduled.
        name: `poly` = (1 - step / num_training_steps) ** poly_power, `step` = x0.1 at each milestone, `constant`.
        num_training_steps: optimiser steps of the whole run.
        num_warmup_steps: the first steps, in which the factor also rises linearly to 1.
        milestones: steps of the `step` schedule.
        poly_power: exponent of `poly`.

    Raises:
        ValueError: unknown name, or `step` without milestones.
    """
    if name not in SCHEDULES:
        raise ValueError(f"Unknown schedule {name!r}; choose one of {', '.join(SCHEDULES)}.")
    if name == "step" and not milestones:
        raise ValueError("The `step` schedule needs `lr_milestones`, for example 327778 355092.")

    def factor(step: int) -> float:
        warmup = min(1.0, (step + 1) / (num_warmup_steps + 1))
        if name == "poly":
            return warmup * max(0.0, 1 - step / num_training_steps) ** poly_power
        if name == "step":
            return warmup * 0.1 ** sum(step >= milestone for milestone in milestones)
        return warmup

    return LambdaLR(optimizer, factor)
