"""Peak memory of the loss next to that of a straight implementation with full float masks.

`python -m` this module measures one of the two in its own process; `measure_loss_memory` starts both.
"""

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..models.segmentation_targets import binary_masks
from ..models.set_criterion import SetCriterion
from .peak_memory import extra_peak_mb, run_in_fresh_process
from .random_model import coco_config
from .straight_loss import StraightCriterion

PROMISED_SHARE = 0.25
IMPLEMENTATIONS = ("ours", "straight")


@dataclass(frozen=True)
class LossCase:
    """A batch of predictions and targets, ResNet-50 COCO settings.

    Attributes:
        num_segments: targets an image.
        image_size: side of the square images in pixels.
        batch_size: images.
    """

    num_segments: int = 98
    image_size: int = 1024
    batch_size: int = 2

    def predictions(self) -> dict[str, tuple[Tensor | None, ...]]:
        """Logits of the proposal kernels and of two stages, with gradients."""
        config, grid = coco_config(), self.image_size // 4
        masks = [torch.randn(self.batch_size, config.num_queries, grid, grid) for _ in range(config.num_stages + 1)]
        classes = [
            torch.randn(self.batch_size, config.num_queries, config.num_labels + 1) for _ in range(config.num_stages)
        ]
        return {
            "mask_logits": tuple(tensor.requires_grad_() for tensor in masks),
            "class_logits": (None, *(tensor.requires_grad_() for tensor in classes)),
        }

    def id_maps(self) -> list[Tensor]:
        """int32 maps `(H, W)` of square segments in rows and columns."""
        side = self.image_size
        per_row = math.isqrt(self.num_segments - 1) + 1
        cells = torch.arange(side) * per_row // side
        ids = cells[:, None] * per_row + cells[None]
        ids = torch.where(ids < self.num_segments, ids, -1).int()
        return [ids.clone() for _ in range(self.batch_size)]

    def class_labels(self) -> list[Tensor]:
        """A class for each segment."""
        return [torch.arange(self.num_segments) % coco_config().num_labels for _ in range(self.batch_size)]


def coco_criterion() -> SetCriterion:
    """The loss of the ResNet-50 COCO configuration."""
    return SetCriterion.from_config(coco_config())


def loss_function(implementation: str, case: LossCase) -> Callable[[], dict[str, Tensor]]:
    """The loss of given predictions and targets: id maps for ours, bool masks for the straight implementation."""
    predictions, maps, labels = case.predictions(), case.id_maps(), case.class_labels()
    if implementation == "ours":
        canvas = (case.image_size, case.image_size)
        criterion = coco_criterion()
        return lambda: criterion(**predictions, mask_labels=maps, class_labels=labels, canvas_size=canvas)
    masks = [binary_masks(ids, case.num_segments) for ids in maps]
    straight = StraightCriterion(coco_criterion())
    return lambda: straight(**predictions, mask_labels=masks, class_labels=labels)


def measure_here(implementation: str, case: LossCase) -> dict[str, float]:
    """Megabytes of forward and backward above predictions and targets, seconds, and the loss."""
    torch.manual_seed(0)
    loss_function(implementation, LossCase(num_segments=2, image_size=64))()  # loads the libraries' code
    losses = loss_function(implementation, case)
    measured: dict[str, float] = {}

    def task() -> None:
        torch.manual_seed(1)
        start = time.perf_counter()
        loss = sum(losses().values())
        loss.backward()
        measured.update(seconds=time.perf_counter() - start, loss=loss.item())

    return {"extra_peak_mb": extra_peak_mb(task, torch.device("cpu")), **measured}


def measure_loss_memory(case: LossCase, threads: int) -> dict[str, Any]:
    """Both implementations, each in a fresh process, and the share that ours has of the other's peak.

    Raises:
        MemoryNotMeasuredError: with the reason.
    """
    words = ["--threads", str(threads)]
    for name, value in vars(case).items():
        words += [f"--{name}", str(value)]
    measured = {name: run_in_fresh_process(__name__, ["--implementation", name, *words]) for name in IMPLEMENTATIONS}
    share = measured["ours"]["extra_peak_mb"] / measured["straight"]["extra_peak_mb"]
    return {"case": vars(case), **measured, "share": share, "promised_share": PROMISED_SHARE}


def add_case_arguments(parser: argparse.ArgumentParser) -> None:
    """`--num_segments --image_size --batch_size --threads`."""
    for name, value in vars(LossCase()).items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--threads", type=int, default=2)


def case_from(arguments: argparse.Namespace) -> LossCase:
    """The case of the parsed arguments."""
    return LossCase(arguments.num_segments, arguments.image_size, arguments.batch_size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--implementation", choices=IMPLEMENTATIONS, required=True)
    add_case_arguments(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(json.dumps(measure_here(arguments.implementation, case_from(arguments))))


if __name__ == "__main__":
    main()
