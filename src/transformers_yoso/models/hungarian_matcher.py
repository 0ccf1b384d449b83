"""One-to-one matching of predictions and segments (DETR, arXiv 2005.12872), on sampled points."""

from collections import defaultdict, deque

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .point_sampling import at_least_float32, draw_points, sample_mask_logits, sample_target_masks


def pairwise_mask_cost(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean binary cross entropy of every prediction with every target: `(N, P)`, `(n, P)` -> `(N, n)`."""
    return (F.softplus(logits).sum(-1, keepdim=True) - logits @ targets.T) / logits.shape[1]


def pairwise_dice_cost(logits: Tensor, targets: Tensor) -> Tensor:
    """Dice distance with smoothing 1 of every prediction with every target: `(N, P)`, `(n, P)` -> `(N, n)`."""
    probabilities = logits.sigmoid()
    sums = probabilities.sum(-1, keepdim=True) + targets.sum(-1)
    return 1 - (2 * probabilities @ targets.T + 1) / (sums + 1)


class HungarianMatcher(nn.Module):
    """Assigns each segment of an image to one query so that the sum of the costs is least.

    Cost = class_weight * (-p_class) + mask_weight * BCE + dice_weight * dice, the masks at `num_points` uniform points
    shared by all masks of an image. If there are more segments than queries, the dearest segments stay unmatched.
    """

    def __init__(self, class_weight: float, mask_weight: float, dice_weight: float, num_points: int) -> None:
        super().__init__()
        self.class_weight = class_weight
        self.mask_weight = mask_weight
        self.dice_weight = dice_weight
        self.num_points = num_points

    @torch.no_grad()
    def forward(
        self,
        mask_logits: Tensor,
        class_logits: Tensor | None,
        mask_labels: list[Tensor],
        class_labels: list[Tensor],
        canvas_size: tuple[int, int],
        generators: list[torch.Generator] | None = None,
    ) -> list[tuple[Tensor, Tensor]]:
        """
        Args:
            mask_logits (`Tensor` of shape `(B, N, h, w)`), class_logits (`Tensor` of shape `(B, N, C + 1)` or `None`):
                Predictions of one stage; without class logits there is no class cost.
            mask_labels (`list[Tensor]`), class_labels (`list[Tensor]`): Targets of each image, see
                [`YosoForUniversalSegmentation.forward`].
            canvas_size (`tuple[int, int]`): Height and width of the padded input in pixels.
            generators (`list[torch.Generator]`, *optional*): See [`draw_points`].

        Returns:
            For each image the indices of the matched queries, ascending, and of their segments.
        """
        matches = []
        for index, (masks, labels) in enumerate(zip(mask_labels, class_labels, strict=True)):
            image_logits = at_least_float32(mask_logits[index])
            generator = None if generators is None else [generators[index]]
            points = draw_points([1], self.num_points, image_logits, generator)[0]
            logits = sample_mask_logits(image_logits, points)
            segments = torch.arange(len(labels), device=labels.device)
            targets = sample_target_masks(masks, segments, points, canvas_size)
            cost = self.mask_weight * pairwise_mask_cost(logits, targets)
            cost = cost + self.dice_weight * pairwise_dice_cost(logits, targets)
            # Segments that no point hits: those of one class (without class cost all of them) cost the same.
            kinds = torch.zeros_like(labels)
            if class_logits is not None:
                cost = cost - self.class_weight * at_least_float32(class_logits[index]).softmax(-1)[:, labels]
                kinds = labels
            groups = torch.where(targets.any(1), segments, -1 - kinds)
            matches.append(self._assign(cost, groups))
        return matches

    @staticmethod
    def _assign(cost: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
        """Matches by costs `(N, n)`; segments of one group `(n,)`, whose costs are equal, go to their queries in order.

        Else the solver's choice among them, and with it the points at which their masks are compared, would hang on
        the rounding of the costs.
        """
        from scipy.optimize import linear_sum_assignment

        costs = cost.nan_to_num(nan=1e10, posinf=1e10, neginf=-1e10).cpu().numpy()
        queries, segments = linear_sum_assignment(costs)
        names, members = groups.tolist(), defaultdict(deque)
        for segment, name in enumerate(names):
            members[name].append(segment)
        segments = [members[names[segment]].popleft() for segment in segments]
        indices = {"dtype": torch.long, "device": cost.device}  # also where there is nothing to match
        return torch.as_tensor(queries, **indices), torch.as_tensor(segments, **indices)
