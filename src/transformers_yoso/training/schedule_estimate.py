"""How long a recipe would take on many processes, calculated from what one process was measured to do."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..model_card.markdown_tables import describe

GIGABYTE = 1e9
BYTES_PER_WEIGHT = 4
"""Gradients are summed in float32."""


@dataclass(frozen=True)
class StepMeasurement:
    """
    What one process did, without others.

    Attributes:
        images_per_second: of the training step, data already there.
        loading_images_per_second: of decoding and augmentation; None if it was not measured.
        memory_gib: largest memory of the process; None if it was not measured.
        origin: where and how it was measured.
    """

    images_per_second: float
    loading_images_per_second: float | None
    memory_gib: float | None
    origin: str

    def __post_init__(self):
        if self.images_per_second <= 0 or (self.loading_images_per_second or 1) <= 0:
            raise ValueError(f"Images per second must be greater than 0, got {self}.")

    @classmethod
    def from_benchmark(cls, content: Mapping[str, Any]) -> "StepMeasurement":
        """
        From the JSON that `scripts/benchmark_data.py --output_json` writes.

        Raises:
            ValueError: it is not such a file.
        """
        try:
            medians, settings = content["median"], content["settings"]
            return cls(
                images_per_second=medians["training"],
                loading_images_per_second=medians["loading"],
                memory_gib=content.get("memory_gib"),
                origin=(
                    f"scripts/benchmark_data.py, {describe(content['hardware'])}: {settings['model_name_or_path']}, "
                    f"crop {settings['crop_size']}, {settings['per_device_train_batch_size']} images a step, "
                    f"{settings['dataloader_num_workers']} workers that load"
                ),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"This is no JSON of scripts/benchmark_data.py: {error!r} is missing.") from error


@dataclass(frozen=True)
class ScheduleEstimate:
    """
    A schedule on `num_processes` equal processes.

    Attributes:
        steps, images: of the whole schedule.
        images_per_second: of all processes together.
        hours: without evaluation and checkpoints.
        communication_share: of a step's time, with gradients summed after the backward pass; 0 if left out.
        loading_keeps_up: whether each process loads as fast as it trains; None if loading was not measured.
    """

    num_processes: int
    steps: int
    images: int
    images_per_second: float
    hours: float
    communication_share: float
    loading_keeps_up: bool | None


def estimate_schedule(
    measured: StepMeasurement,
    *,
    steps: int,
    total_batch_size: int,
    num_processes: int,
    num_parameters: int = 0,
    bandwidth: float | None = None,
) -> ScheduleEstimate:
    """
    Calculates time and rate; every process is taken to do what the measured one did.

    Args:
        measured: one process.
        steps: optimiser steps.
        total_batch_size: images a step over all processes.
        num_processes: that share it.
        num_parameters: whose gradients are summed over the processes.
        bandwidth: GB/s between neighbours of the ring; None leaves the summing out, as if it were hidden behind the
            backward pass.

    Raises:
        ValueError: the batch cannot be divided among the processes, or a number is not positive.
    """
    if min(steps, total_batch_size, num_processes) < 1 or (bandwidth is not None and bandwidth <= 0):
        raise ValueError("Steps, batch size, processes and bandwidth must be greater than 0.")
    if total_batch_size % num_processes:
        raise ValueError(f"{total_batch_size} images a step cannot be divided among {num_processes} processes.")
    computing = total_batch_size / num_processes / measured.images_per_second
    ring_bytes = 2 * (num_processes - 1) / num_processes * num_parameters * BYTES_PER_WEIGHT
    communicating = 0.0 if bandwidth is None else ring_bytes / (bandwidth * GIGABYTE)
    seconds = computing + communicating
    loading = measured.loading_images_per_second
    return ScheduleEstimate(
        num_processes=num_processes,
        steps=steps,
        images=steps * total_batch_size,
        images_per_second=total_batch_size / seconds,
        hours=steps * seconds / 3600,
        communication_share=communicating / seconds,
        loading_keeps_up=None if loading is None else loading * seconds >= total_batch_size / num_processes,
    )
