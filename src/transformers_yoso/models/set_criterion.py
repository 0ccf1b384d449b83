"""Set-prediction loss of YOSO: matching, then cross entropy and point-sampled BCE and dice, for every stage."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .configuration_yoso import YosoConfig
from .hungarian_matcher import HungarianMatcher
from .point_sampling import at_least_float32, sample_mask_logits, sample_target_masks, sample_uncertain_points


def point_bce_loss(logits: Tensor, targets: Tensor, num_masks: Tensor) -> Tensor:
    """Sum over the masks of the mean binary cross entropy of the points `(M, P)`, divided by `num_masks`."""
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(1).sum() / num_masks


def point_dice_loss(logits: Tensor, targets: Tensor, num_masks: Tensor) -> Tensor:
    """Sum over the masks of the dice distance with smoothing 1 of the points `(M, P)`, divided by `num_masks`."""
    probabilities = logits.sigmoid()
    overlap = 2 * (probabilities * targets).sum(-1)
    dice = 1 - (overlap + 1) / (probabilities.sum(-1) + targets.sum(-1) + 1)
    return dice.sum() / num_masks


class SetCriterion(nn.Module):
    """Weighted losses of all stages. Stage 0, the proposal kernels, has masks but no classes.

    Args:
        num_labels (`int`): C; index C of the class logits is no-object.
        class_weight, mask_weight, dice_weight (`float`): Weights of the losses and of the matching costs.
        no_object_weight (`float`): Weight of the no-object class in the cross entropy.
        num_points (`int`): Points a mask.
        oversample_ratio, importance_sample_ratio (`float`): See [`sample_uncertain_points`].
    """

    def __init__(
        self,
        num_labels: int,
        class_weight: float,
        mask_weight: float,
        dice_weight: float,
        no_object_weight: float,
        num_points: int,
        oversample_ratio: float,
        importance_sample_ratio: float,
    ) -> None:
        super().__init__()
        self.matcher = HungarianMatcher(class_weight, mask_weight, dice_weight, num_points)
        self.num_labels = num_labels
        self.no_object_weight = no_object_weight
        self.num_points = num_points
        self.oversample_ratio = oversample_ratio
        self.importance_sample_ratio = importance_sample_ratio

    @classmethod
    def from_config(cls, config: YosoConfig) -> "SetCriterion":
        """The loss with the weights and points of `config`."""
        return cls(
            num_labels=config.num_labels,
            class_weight=config.class_weight,
            mask_weight=config.mask_weight,
            dice_weight=config.dice_weight,
            no_object_weight=config.no_object_weight,
            num_points=config.train_num_points,
            oversample_ratio=config.oversample_ratio,
            importance_sample_ratio=config.importance_sample_ratio,
        )

    def forward(
        self,
        mask_logits: tuple[Tensor, ...],
        class_logits: tuple[Tensor | None, ...],
        mask_labels: list[Tensor],
        class_labels: list[Tensor],
        canvas_size: tuple[int, int],
        num_items_in_batch: Tensor | float | None = None,
        point_seeds: list[int] | None = None,
    ) -> dict[str, Tensor]:
        """
        Args:
            mask_logits (T + 1 tensors `(B, N, h, w)`), class_logits (T + 1 tensors `(B, N, C + 1)` or `None`): Of each
                stage, that of the proposal kernels first.
            mask_labels, class_labels (`list[Tensor]`): Targets, see [`YosoForUniversalSegmentation.forward`].
            canvas_size (`tuple[int, int]`): Height and width of the padded input in pixels.
            num_items_in_batch (`float`, *optional*): What the mask losses are divided by, for gradient accumulation.
                By default the target masks of this batch, averaged over the processes, at least 1.
            point_seeds (`list[int]`, *optional*): One an image. Its points for matching and losses then depend on its
                seed only, not on the batch that it is in. By default torch's global generator draws them.

        Returns:
            Weighted losses `stage{i}_loss_{cross_entropy,mask,dice}`; their sum is the loss.
        """
        num_masks = self.count_masks(class_labels) if num_items_in_batch is None else num_items_in_batch
        generators = None
        if point_seeds is not None:
            generators = [torch.Generator(mask_logits[0].device).manual_seed(seed) for seed in point_seeds]
        losses = {}
        with torch.autocast(device_type=mask_logits[0].device.type, enabled=False):
            for stage, (masks, classes) in enumerate(zip(mask_logits, class_logits, strict=True)):
                matches = self.matcher(masks, classes, mask_labels, class_labels, canvas_size, generators)
                if classes is not None:
                    loss = self.class_loss(at_least_float32(classes), class_labels, matches)
                    losses[f"stage{stage}_loss_cross_entropy"] = self.matcher.class_weight * loss
                bce, dice = self.mask_losses(masks, mask_labels, matches, canvas_size, num_masks, generators)
                losses[f"stage{stage}_loss_mask"] = self.matcher.mask_weight * bce
                losses[f"stage{stage}_loss_dice"] = self.matcher.dice_weight * dice
        return losses

    @staticmethod
    def count_masks(class_labels: list[Tensor]) -> Tensor:
        """Target masks a process, averaged over all processes, at least 1."""
        count = torch.tensor(float(sum(len(labels) for labels in class_labels)), device=class_labels[0].device)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(count)
            count = count / torch.distributed.get_world_size()
        return count.clamp(min=1)

    def class_loss(self, logits: Tensor, class_labels: list[Tensor], matches: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Cross entropy over all queries of the batch; unmatched ones are no-object, which weighs less."""
        targets = torch.full(logits.shape[:2], self.num_labels, dtype=torch.long, device=logits.device)
        for target, labels, (queries, segments) in zip(targets, class_labels, matches, strict=True):
            target[queries] = labels[segments]
        weight = logits.new_ones(self.num_labels + 1)
        weight[-1] = self.no_object_weight
        loss = F.cross_entropy(logits.transpose(1, 2), targets, weight, reduction="sum")
        return loss / weight[targets].sum().clamp(min=torch.finfo(weight.dtype).tiny)

    def mask_losses(
        self,
        mask_logits: Tensor,
        mask_labels: list[Tensor],
        matches: list[tuple[Tensor, Tensor]],
        canvas_size: tuple[int, int],
        num_masks: Tensor | float,
        generators: list[torch.Generator] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Point-sampled BCE and dice of the matched masks of the batch.

        Only points and targets are kept for the backward pass, which samples the masks again: this is where the loss
        would need most of its memory.
        """
        counts = [len(queries) for queries, _ in matches]
        if not sum(counts):
            zero = at_least_float32(mask_logits[:0]).sum()
            return zero, zero
        with torch.no_grad():
            points = sample_uncertain_points(
                _matched_masks(mask_logits, matches),
                self.num_points,
                self.oversample_ratio,
                self.importance_sample_ratio,
                counts,
                generators,
            )
            targets = torch.cat(
                [
                    sample_target_masks(masks, segments, image_points, canvas_size)
                    for masks, (_, segments), image_points in zip(
                        mask_labels, matches, points.split(counts), strict=True
                    )
                ]
            )

        def losses_at_points(mask_logits: Tensor) -> tuple[Tensor, Tensor]:
            logits = sample_mask_logits(_matched_masks(mask_logits, matches), points)
            return point_bce_loss(logits, targets, num_masks), point_dice_loss(logits, targets, num_masks)

        return checkpoint(losses_at_points, mask_logits, use_reentrant=False, preserve_rng_state=False)


def _matched_masks(mask_logits: Tensor, matches: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Of `(B, N, h, w)` the matched masks, image after image, at least float32 `(M, h, w)`."""
    images = [torch.full_like(queries, index) for index, (queries, _) in enumerate(matches)]
    return at_least_float32(mask_logits[torch.cat(images), torch.cat([queries for queries, _ in matches])])
