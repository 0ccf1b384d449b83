"""Panoptic post-processing for GPUs: everything is enqueued, and the host waits once, for the segments of all images.

The rules and results are those of `post_processing.panoptic_segmentation`, in which the host decides which queries are
upsampled and which segments are merged. Here the device does: the Triton kernel reads how many queries are kept, and
merging is a comparison of all queries with all.
"""

import importlib
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from .mask_upsampling import own_canvas, two_step_taps
from .post_processing import UNDEFINED_LOGITS

CACHED_TABLES = 16
"""Sizes and label sets whose tables stay on the device: copying one there would wait for the device."""


def triton_assignment(device: torch.device) -> Callable[..., tuple[Tensor, Tensor]] | None:
    """The Triton kernel `assign_pixels`, if it can compute on the device."""
    if device.type != "cuda":
        return None
    try:  # by name, so that `trust_remote_code` does not ask for Triton everywhere
        return importlib.import_module(".panoptic_assignment_triton", __package__).assign_pixels
    except ImportError:
        return None


@torch.no_grad()
def panoptic_segmentations(
    images: Sequence[tuple[Tensor, Tensor, tuple[int, int], tuple[int, int]]],
    assign_pixels: Callable[..., tuple[Tensor, Tensor]],
    threshold: float,
    mask_threshold: float,
    overlap_mask_area_threshold: float,
    label_ids_to_fuse: Collection[int],
) -> list[dict[str, Any]]:
    """`panoptic_segmentation` of several images, with the maps left on the device.

    Args:
        images: per image (class logits (N, C+1), mask logits (N, h, w), image size, target size).
        assign_pixels: that of `panoptic_assignment_triton`.

    Raises:
        ValueError: class logits that are NaN or infinite.
    """
    maps, tables = [], []
    for class_logits, mask_logits, image_size, target_size in images:
        scores, labels = class_logits.float().softmax(-1).max(-1)
        no_object = class_logits.shape[-1] - 1
        kept = (labels != no_object) & (scores > threshold)
        grid, canvas = own_canvas(mask_logits, image_size)
        rows, columns = (
            cached_taps(*lengths, grid.device)
            for lengths in zip(grid.shape[1:], canvas, image_size, target_size, strict=True)
        )
        queries = torch.argsort(kept.int(), descending=True, stable=True)
        codes, areas = assign_pixels(grid, queries, kept.sum(), scores, rows, columns, mask_threshold)
        is_stuff = fused_labels(tuple(sorted(label_ids_to_fuse)), no_object + 1, grid.device)
        ids, table = merge_segments(scores, labels, kept, areas, is_stuff[labels], overlap_mask_area_threshold)
        id_of_code = torch.stack((torch.zeros_like(ids), ids), dim=1).flatten()
        maps.append(id_of_code.index_select(0, codes.flatten()).view(target_size))
        tables.append(torch.cat((table, class_logits.isfinite().all(-1, keepdim=True)), dim=1))
    return [
        {"segmentation": segmentation, "segments_info": read_table(table)}
        for segmentation, table in zip(maps, torch.stack(tables).tolist(), strict=True)
    ]


@lru_cache(maxsize=CACHED_TABLES)
def cached_taps(grid: int, canvas: int, image: int, target: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """`two_step_taps` on the device; indices int32."""
    indices, weights = two_step_taps(grid, canvas, image, target)
    return indices.int().to(device), weights.to(device)


@lru_cache(maxsize=CACHED_TABLES)
def fused_labels(label_ids: tuple[int, ...], num_labels: int, device: torch.device) -> Tensor:
    """bool (num_labels,): which labels are fused."""
    return torch.tensor([label in label_ids for label in range(num_labels)], device=device)


def merge_segments(
    scores: Tensor,
    labels: Tensor,
    kept: Tensor,
    areas: Tensor,
    is_stuff: Tensor,
    overlap_mask_area_threshold: float,
) -> tuple[Tensor, Tensor]:
    """
    Args:
        scores, labels, kept, is_stuff: of the N queries, each (N,).
        areas: (N, 3), see `assign_pixels`.

    Returns:
        int32 (N,): each query's segment id, 0 = void; float64 (N, 5): whether the query starts a segment, and that
        segment's id, label, whether it is fused, and score.
    """
    mask_area, won_area = areas[:, 0], areas[:, 1]
    overlap = won_area.double() / mask_area.clamp(min=1)
    valid = kept & (areas.amin(1) > 0) & (overlap >= overlap_mask_area_threshold)
    fused = valid & is_stuff
    same_segment = (labels[:, None] == labels) & fused[:, None] & fused
    position = torch.arange(len(labels), device=labels.device)
    first = torch.where(fused, same_segment.int().argmax(1), position)
    starts = valid & (first == position)
    ids = starts.cumsum(0)[first] * valid
    best = torch.where(fused, (scores * same_segment).amax(1), scores)
    return ids.int(), torch.stack([column.double() for column in (starts, ids, labels, is_stuff, best)], dim=1)


def read_table(rows: list[list[float]]) -> list[dict[str, Any]]:
    """`segments_info` from the rows of `merge_segments`, each followed by whether the query's logits are finite."""
    if not all(row[-1] for row in rows):
        raise ValueError(UNDEFINED_LOGITS)
    return [
        {"id": int(segment_id), "label_id": int(label), "was_fused": bool(fused), "score": round(score, 6)}
        for starts, segment_id, label, fused, score, _ in rows
        if starts
    ]
