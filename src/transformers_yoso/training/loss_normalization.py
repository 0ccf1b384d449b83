"""
Losses of a global batch, exact for any split into processes and accumulated passes.

The mask losses of a global batch are divided by its number of target masks; its cross entropy is a mean over all of its
queries, weighted by class. The mean of means over processes and passes is not that: each pass counts by its share.
Both sums are known before the forward pass, as an image of n segments has min(n, num_queries) matched queries.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor


class LossShares(NamedTuple):
    """
    What turns the model's losses of one pass into its share of the global batch's losses.

    The global loss is the mean of the shares over all processes and passes, as Accelerate and DDP take it.

    Attributes:
        num_masks: divisor of the mask losses, the model's `num_items_in_batch`.
        class_factors: of each pass, factor on its cross entropy.
    """

    num_masks: float
    class_factors: list[float]


def loss_shares(
    class_labels: Sequence[list[Tensor]], num_queries: int, no_object_weight: float, accelerator: Accelerator
) -> LossShares:
    """
    Counts target masks and class weights over all processes.

    Args:
        class_labels: for each pass of this process the labels of its images' segments.
        num_queries: of the model.
        no_object_weight: weight of an unmatched query in the cross entropy.
        accelerator: of the run.
    """

    def class_weight(num_matched: int, num_images: int) -> float:
        return num_matched + no_object_weight * (num_queries * num_images - num_matched)

    num_images = [len(labels_of_pass) for labels_of_pass in class_labels]
    num_matched = [sum(min(len(labels), num_queries) for labels in labels_of_pass) for labels_of_pass in class_labels]
    num_masks = sum(len(labels) for labels_of_pass in class_labels for labels in labels_of_pass)
    # Whole numbers, so that the totals are the same to the last bit however the batch is divided.
    local = torch.tensor([num_masks, sum(num_matched), sum(num_images)], device=accelerator.device)
    total_masks, total_matched, total_images = accelerator.reduce(local, "sum").tolist()
    total_weight = class_weight(total_matched, total_images)
    passes = accelerator.num_processes * len(class_labels)
    weights = map(class_weight, num_matched, num_images)
    return LossShares(
        num_masks=max(total_masks / passes, 1.0),
        class_factors=[weight * passes / total_weight if total_weight else 1.0 for weight in weights],
    )


def share_of_losses(losses: dict[str, Tensor], class_factor: float) -> dict[str, Tensor]:
    """The losses of a pass (`YosoForUniversalSegmentationOutput.loss_dict`) with its cross entropies as shares."""
    return {name: value * class_factor if name.endswith("cross_entropy") else value for name, value in losses.items()}
