"""Panoptic maps as COCO stores them: a PNG of colour-coded ids, or run lengths for each segment."""

import io
from typing import Any

import torch
from PIL import Image
from torch import Tensor


def encode_png(segmentation: Tensor) -> bytes:
    """Ids (H, W), int32 -> bytes of an RGB PNG with id = R + 256 G + 65536 B, as in COCO's panoptic annotations."""
    colours = torch.stack([segmentation.bitwise_right_shift(shift) & 255 for shift in (0, 8, 16)], dim=-1)
    buffer = io.BytesIO()
    Image.fromarray(colours.to(torch.uint8).numpy(force=True)).save(buffer, format="PNG")
    return buffer.getvalue()


def encode_rle(segmentation: Tensor, segment_ids: list[int]) -> list[dict[str, Any]]:
    """Ids (H, W) -> for each segment COCO's run lengths, `{"size": [H, W], "counts": [...]}`.

    `counts` are plain numbers, pixels outside and inside in turn, column by column; pycocotools reads them by
    `mask.frPyObjects`. All runs of the map are found at once and copied to the host together.
    """
    height, width = segmentation.shape
    columns = segmentation.t().flatten()
    values, lengths = torch.unique_consecutive(columns, return_counts=True)
    starts = lengths.cumsum(0) - lengths
    runs = torch.stack((values.long(), starts, lengths), dim=1).tolist()
    counts: dict[int, list[int]] = {segment_id: [] for segment_id in segment_ids}
    ends = dict.fromkeys(segment_ids, 0)
    for value, start, length in runs:
        if value in counts:
            counts[value] += [start - ends[value], length]
            ends[value] = start + length
    size = [height, width]
    rest = {segment_id: [height * width - end] if end < height * width else [] for segment_id, end in ends.items()}
    return [{"size": size, "counts": counts[segment_id] + rest[segment_id]} for segment_id in segment_ids]
