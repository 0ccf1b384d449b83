"""Whole-map operations on segment maps: each is a few passes over the pixels, however many segments there are."""

from collections.abc import Sequence

import numpy as np

MAX_SEGMENT_ID = 2**24 - 1
"""What a COCO panoptic PNG can hold."""


def segment_rows(ids: np.ndarray, segment_ids: Sequence[int]) -> np.ndarray:
    """Map (H, W), uint16, with k + 1 where `ids` equals `segment_ids[k]`, and 0 for void.

    Raises:
        ValueError: the map is not of integers, or a segment id is negative or above 2^24 - 1.
    """
    if not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(f"The segmentation must hold integer ids, not {ids.dtype}.")
    if any(not 0 <= segment_id <= MAX_SEGMENT_ID for segment_id in segment_ids):
        raise ValueError(f"Segment ids must lie in 0..{MAX_SEGMENT_ID}, got {sorted(segment_ids)}.")
    if not segment_ids:
        return np.zeros(ids.shape, dtype=np.uint16)
    largest = max(segment_ids)
    table = np.zeros(largest + 3, dtype=np.uint16)
    table[np.asarray(segment_ids) + 1] = np.arange(1, len(segment_ids) + 1)
    return table.take(np.add(ids, 1, dtype=np.int64), mode="clip")


def segment_areas(rows: np.ndarray, count: int) -> np.ndarray:
    """Pixels of each of `count` segments in a map of `segment_rows`, int64 (count,)."""
    return np.bincount(rows.ravel(), minlength=count + 1)[1:]


def outline_mask(rows: np.ndarray, width: int) -> np.ndarray:
    """Pixels at most `width` (city-block) from a pixel of another segment, (H, W) bool."""
    edge = np.zeros(rows.shape, dtype=bool)
    vertical, horizontal = rows[1:] != rows[:-1], rows[:, 1:] != rows[:, :-1]
    edge[1:] |= vertical
    edge[:-1] |= vertical
    edge[:, 1:] |= horizontal
    edge[:, :-1] |= horizontal
    for _ in range(width - 1):
        grown = edge.copy()
        grown[1:] |= edge[:-1]
        grown[:-1] |= edge[1:]
        grown[:, 1:] |= edge[:, :-1]
        grown[:, :-1] |= edge[:, 1:]
        edge = grown
    return edge
