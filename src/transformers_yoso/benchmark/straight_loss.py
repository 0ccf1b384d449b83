"""The set-prediction loss as Mask2Former and the released code compute it, with full float masks: the yardstick of
[`SetCriterion`]'s memory."""

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from ..models.set_criterion import SetCriterion

Matches = list[tuple[Tensor, Tensor]]


def sample_points(maps: Tensor, points: Tensor) -> Tensor:
    """Maps `(M, 1, H, W)` at points `(M, P, 2)`, each (x, y) in [0, 1] -> `(M, P)`."""
    return F.grid_sample(maps, 2 * points.unsqueeze(2) - 1, align_corners=False)[:, 0, :, 0]


def dice_cost(logits: Tensor, targets: Tensor) -> Tensor:
    """`(N, P)`, `(n, P)` -> `(N, n)`."""
    probabilities = logits.sigmoid()
    overlap = 2 * torch.einsum("qp,sp->qs", probabilities, targets)
    return 1 - (overlap + 1) / (probabilities.sum(-1)[:, None] + targets.sum(-1)[None] + 1)


def cross_entropy_cost(logits: Tensor, targets: Tensor) -> Tensor:
    """`(N, P)`, `(n, P)` -> `(N, n)`."""
    inside = F.binary_cross_entropy_with_logits(logits, torch.ones_like(logits), reduction="none")
    outside = F.binary_cross_entropy_with_logits(logits, torch.zeros_like(logits), reduction="none")
    cost = torch.einsum("qp,sp->qs", inside, targets) + torch.einsum("qp,sp->qs", outside, 1 - targets)
    return cost / logits.shape[1]


class StraightCriterion(nn.Module):
    """Losses with the weights of `criterion`, from masks `(n, H, W)` that are made float and sampled by `grid_sample`.

    It draws its points in the same order as `criterion`, so both have equal losses under one seed.
    """

    def __init__(self, criterion: SetCriterion) -> None:
        super().__init__()
        self.settings = criterion

    def forward(
        self,
        mask_logits: tuple[Tensor, ...],
        class_logits: tuple[Tensor | None, ...],
        mask_labels: list[Tensor],
        class_labels: list[Tensor],
    ) -> dict[str, Tensor]:
        """As [`SetCriterion.forward`], with `mask_labels` bool `(n, H, W)` of the padded input's size."""
        weights = self.settings.matcher
        num_masks = max(sum(len(labels) for labels in class_labels), 1)
        losses = {}
        for stage, (masks, classes) in enumerate(zip(mask_logits, class_logits, strict=True)):
            matches = self.match(masks, classes, mask_labels, class_labels)
            if classes is not None:
                loss = self.class_loss(classes, class_labels, matches)
                losses[f"stage{stage}_loss_cross_entropy"] = weights.class_weight * loss
            mask_loss, dice_loss = self.mask_losses(masks, mask_labels, matches, num_masks)
            losses[f"stage{stage}_loss_mask"] = weights.mask_weight * mask_loss
            losses[f"stage{stage}_loss_dice"] = weights.dice_weight * dice_loss
        return losses

    @torch.no_grad()
    def match(
        self, mask_logits: Tensor, class_logits: Tensor | None, mask_labels: list[Tensor], class_labels: list[Tensor]
    ) -> Matches:
        """Hungarian matching on points that the masks of an image share."""
        weights = self.settings.matcher
        matches = []
        for image, (masks, labels) in enumerate(zip(mask_labels, class_labels, strict=True)):
            predicted, wanted = mask_logits[image][:, None], masks.to(mask_logits)[:, None]
            points = torch.rand(1, self.settings.num_points, 2, device=mask_logits.device)
            predicted = sample_points(predicted, points.repeat(len(predicted), 1, 1))
            wanted = sample_points(wanted, points.repeat(len(wanted), 1, 1))
            cost = weights.mask_weight * cross_entropy_cost(predicted, wanted)
            cost = cost + weights.dice_weight * dice_cost(predicted, wanted)
            if class_logits is not None:
                cost = cost - weights.class_weight * class_logits[image].softmax(-1)[:, labels]
            queries, segments = linear_sum_assignment(cost.cpu().numpy())
            matches.append((torch.as_tensor(queries), torch.as_tensor(segments)))
        return matches

    def class_loss(self, class_logits: Tensor, class_labels: list[Tensor], matches: Matches) -> Tensor:
        """Weighted mean of the cross entropy."""
        num_labels = self.settings.num_labels
        targets = torch.full(class_logits.shape[:2], num_labels, device=class_logits.device)
        for target, labels, (queries, segments) in zip(targets, class_labels, matches, strict=True):
            target[queries] = labels[segments]
        weight = torch.ones(num_labels + 1, device=class_logits.device)
        weight[-1] = self.settings.no_object_weight
        return F.cross_entropy(class_logits.transpose(1, 2), targets, weight)

    def mask_losses(
        self, mask_logits: Tensor, mask_labels: list[Tensor], matches: Matches, num_masks: int
    ) -> tuple[Tensor, Tensor]:
        """Cross entropy and dice of the matched masks at uncertain points."""
        images = torch.cat([torch.full_like(queries, image) for image, (queries, _) in enumerate(matches)])
        queries, segments = (torch.cat(indices) for indices in zip(*matches, strict=True))
        predicted = mask_logits[images, queries][:, None]
        wanted = self.batched(mask_labels).to(predicted)[images, segments][:, None]
        with torch.no_grad():
            points = self.uncertain_points(predicted)
            targets = sample_points(wanted, points)
        logits = sample_points(predicted, points)
        mask_loss = F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(1).sum() / num_masks
        probabilities = logits.sigmoid()
        overlap = 2 * (probabilities * targets).sum(-1)
        dice = 1 - (overlap + 1) / (probabilities.sum(-1) + targets.sum(-1) + 1)
        return mask_loss, dice.sum() / num_masks

    @staticmethod
    def batched(mask_labels: list[Tensor]) -> Tensor:
        """Masks of all images in one tensor `(B, largest n, H, W)`, filled up with empty masks."""
        return nn.utils.rnn.pad_sequence(mask_labels, batch_first=True)

    def uncertain_points(self, predicted: Tensor) -> Tensor:
        """The most uncertain of many uniform points, and uniform ones: `(M, P, 2)`."""
        settings, num_masks = self.settings, len(predicted)
        num_uncertain = int(settings.importance_sample_ratio * settings.num_points)
        many = torch.rand(num_masks, int(settings.oversample_ratio * settings.num_points), 2, device=predicted.device)
        chosen = (-sample_points(predicted, many).abs()).topk(num_uncertain, dim=1).indices
        uncertain = torch.gather(many, 1, chosen[..., None].expand(-1, -1, 2))
        uniform = torch.rand(num_masks, settings.num_points - num_uncertain, 2, device=predicted.device)
        return torch.cat((uncertain, uniform), dim=1)
