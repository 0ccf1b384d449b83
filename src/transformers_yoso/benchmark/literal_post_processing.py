"""The panoptic post-processing as the authors released it: all masks are enlarged, a loop asks query by query."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..models.canvas import MASK_STRIDE


@torch.no_grad()
def literal_panoptic_segmentation(
    class_logits: Tensor,
    mask_logits: Tensor,
    image_size: tuple[int, int],
    target_size: tuple[int, int],
    threshold: float,
    overlap_mask_area_threshold: float,
    label_ids_to_fuse: set[int],
) -> dict[str, Any]:
    """
    Args:
        class_logits (`Tensor` of shape `(N, C + 1)`), mask_logits (`Tensor` of shape `(N, h, w)`): Of one image.
        image_size, target_size (`tuple[int, int]`): Height and width in pixels of the resized image inside of the
            padded input, and of the wanted map.
        threshold, overlap_mask_area_threshold (`float`): Object and overlap threshold.
        label_ids_to_fuse (`set[int]`): Stuff labels.

    Returns:
        `segmentation`, int32 (height, width) with 0 = void, and `segments_info` with `id` and `label_id`.
    """
    padded_size = [MASK_STRIDE * side for side in mask_logits.shape[-2:]]
    masks = F.interpolate(mask_logits[None], size=padded_size, mode="bilinear", align_corners=False)
    masks = masks[..., : image_size[0], : image_size[1]]
    masks = F.interpolate(masks, size=target_size, mode="bilinear", align_corners=False)[0].sigmoid()

    scores, labels = F.softmax(class_logits, dim=-1).max(-1)
    keep = labels.ne(class_logits.shape[-1] - 1) & (scores > threshold)
    scores, labels, masks = scores[keep], labels[keep], masks[keep]
    segmentation = torch.zeros(target_size, dtype=torch.int32, device=masks.device)
    if not len(masks):
        return {"segmentation": segmentation, "segments_info": []}

    winners = (scores.view(-1, 1, 1) * masks).argmax(0)
    segments_info: list[dict[str, Any]] = []
    fused: dict[int, int] = {}
    for query in range(len(labels)):
        label = labels[query].item()
        won_area = (winners == query).sum().item()
        original_area = (masks[query] >= 0.5).sum().item()
        segment = (winners == query) & (masks[query] >= 0.5)
        if won_area == 0 or original_area == 0 or segment.sum().item() == 0:
            continue
        if won_area / original_area < overlap_mask_area_threshold:
            continue
        if label in fused:
            segmentation[segment] = fused[label]
            continue
        segments_info.append({"id": len(segments_info) + 1, "label_id": label})
        if label in label_ids_to_fuse:
            fused[label] = len(segments_info)
        segmentation[segment] = len(segments_info)
    return {"segmentation": segmentation, "segments_info": segments_info}
