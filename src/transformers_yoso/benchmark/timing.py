"""Interleaved timing: every round runs every task once, so that drift of the machine meets all of them alike."""

import time
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from tqdm import tqdm

Key = TypeVar("Key", bound=Hashable)
Task = Callable[[], Any]


def synchronise(device: torch.device) -> None:
    """Waits until the device has done what it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def time_task(task: Task, device: torch.device, repeats: int = 1) -> float:
    """Milliseconds a run, from `repeats` runs in a row."""
    synchronise(device)
    start = time.perf_counter()
    for _ in range(repeats):
        task()
    synchronise(device)
    return 1000 * (time.perf_counter() - start) / repeats


def time_interleaved(
    tasks: Mapping[Key, Task],
    device: torch.device,
    rounds: int,
    warmup_rounds: int = 2,
    repeats: int = 1,
    description: str = "",
) -> dict[Key, list[float]]:
    """
    Times tasks against each other.

    Args:
        tasks: what to time, by name.
        device: where they compute.
        rounds: times that each task is measured, at least 1.
        warmup_rounds: rounds before that count for nothing.
        repeats: runs in a row a measurement; above 1 only where one run is too short for the clock.
        description: of the progress bar.

    Returns:
        Milliseconds of each task, round by round.

    Raises:
        ValueError: `rounds` or `repeats` below 1.
    """
    if rounds < 1 or repeats < 1:
        raise ValueError(f"`rounds` and `repeats` must be at least 1, got {rounds} and {repeats}.")
    times: dict[Key, list[float]] = {key: [] for key in tasks}
    with torch.inference_mode(), tqdm(total=(warmup_rounds + rounds) * len(tasks), desc=description) as progress:
        for round_index in range(warmup_rounds + rounds):
            for key, task in tasks.items():
                milliseconds = time_task(task, device, repeats)
                if round_index >= warmup_rounds:
                    times[key].append(milliseconds)
                progress.update()
    return times


def summarise(milliseconds: list[float]) -> dict[str, Any]:
    """Median and quartiles, with the measurements."""
    q1, median, q3 = np.percentile(milliseconds, [25, 50, 75])
    return {
        "median_ms": round(float(median), 3),
        "q1_ms": round(float(q1), 3),
        "q3_ms": round(float(q3), 3),
        "measurements_ms": [round(value, 3) for value in milliseconds],
    }


def median_ratio(numerator: list[float], denominator: list[float]) -> float:
    """Median of the ratios of measurements of the same round, which drift between rounds does not touch."""
    return float(np.median(np.divide(numerator, denominator)))
