"""The authors' inference: from one image's queries to a panoptic map, instances, or a semantic map.

Every function takes one image: class logits (N, C+1), index C being "no object", and mask logits (N, h, w) on the
1/4-scale grid. `image_size` is the (height, width) in pixels of the resized image inside the padded input,
`target_size` that of the wanted map. Arithmetic is float32 whatever the dtype of the logits, and masks are upsampled
one by one (or in blocks of rows), so that memory does not grow with queries times target pixels.
"""

from typing import Any

import torch
from torch import Tensor

from .mask_upsampling import MaskUpsampling, upsample_masks

UNDEFINED_LOGITS = "The class logits hold NaN or infinite values: check the model's input and weights, and its dtype."

MAX_INSTANCES = 100
"""Instances kept per image, the official `topk_per_image`."""

CPU_BLOCK_PIXELS = 2**16
"""Most pixels of one mask held at once on a CPU while a panoptic map is made, 256 KiB as float32, for its cache."""

BLOCK_ELEMENTS = {"cpu": 2**22, "cuda": 2**26}
"""Most pixels of all masks together held at once while a panoptic map is made, 16 and 256 MiB as float32."""

SEMANTIC_BLOCK_ELEMENTS = 2**22
"""Mask or class values (float32) held at once while a semantic map is made, 16 MiB."""


@torch.no_grad()
def panoptic_segmentation(
    class_logits: Tensor,
    mask_logits: Tensor,
    image_size: tuple[int, int],
    target_size: tuple[int, int],
    threshold: float,
    mask_threshold: float,
    overlap_mask_area_threshold: float,
    label_ids_to_fuse: set[int],
) -> dict[str, Any]:
    """Give every pixel to the query with the largest p * mask and merge the parts of a stuff class.

    Queries with p <= `threshold` or label "no object" are dropped before anything is upsampled. Of the pixels a query
    wins, those with mask < `mask_threshold` stay void. A query is dropped if the pixels it wins are less than
    `overlap_mask_area_threshold` of the pixels its mask covers.

    Returns:
        `segmentation`: int32 (height, width), 0 = void, ids from 1 in query order; all zero if nothing is kept.
        `segments_info`: one dict per id, with `id`, `label_id`, `was_fused` (the label is in `label_ids_to_fuse`) and
        `score` (p of the query; of a fused segment the largest p of its parts).
    """
    scores, labels = class_logits.float().softmax(-1).max(-1)
    no_object = class_logits.shape[-1] - 1
    kept = ((labels != no_object) & (scores > threshold)).nonzero().flatten()
    if len(kept) == 0:
        return {"segmentation": mask_logits.new_zeros(target_size, dtype=torch.int32), "segments_info": []}

    scores, labels = scores[kept], labels[kept]
    codes, original_areas = assign_pixels(mask_logits[kept], scores, image_size, target_size, mask_threshold)
    areas = torch.bincount(codes.flatten(), minlength=2 * len(kept)).view(-1, 2)
    columns = [scores, labels, areas.sum(1), areas[:, 1], original_areas]
    table = torch.stack([column.double() for column in columns], dim=1).tolist()

    segment_ids, segments_info = merge_segments(table, overlap_mask_area_threshold, label_ids_to_fuse)
    id_of_code = [code_id for segment_id in segment_ids for code_id in (0, segment_id)]
    return {"segmentation": look_up(id_of_code, codes), "segments_info": segments_info}


def assign_pixels(
    mask_logits: Tensor,
    scores: Tensor,
    image_size: tuple[int, int],
    target_size: tuple[int, int],
    mask_threshold: float,
) -> tuple[Tensor, Tensor]:
    """Arg-max of p * mask over K queries, in blocks of rows and mask by mask.

    Returns:
        int32 codes (height, width): 2k + 1 where query k wins inside its own mask, 2k where it wins outside of it;
        int64 areas (K,): the pixels inside each mask.
    """
    upsampling = MaskUpsampling(mask_logits, image_size, target_size)
    codes = torch.empty(target_size, dtype=torch.int32, device=scores.device)
    original_areas = torch.zeros(len(scores), dtype=torch.int64, device=scores.device)
    for start, stop in row_blocks(len(scores), target_size, scores.device):
        masks = upsampling.rows(start, stop).sigmoid_()
        best, block_codes, areas = None, None, []
        for k, mask in enumerate(masks):
            # Comparisons as float32 0 or 1, and arithmetic in the place of `where`: torch's vectorised paths on a CPU.
            inside = torch.ge(mask, mask_threshold, out=torch.empty_like(mask))
            areas.append(inside.sum())
            weighted = mask.mul_(scores[k])
            if best is None:
                best, block_codes = weighted, inside
                continue
            wins = torch.gt(weighted, best, out=torch.empty_like(mask))
            # The code of a later query is larger than all before.
            block_codes = torch.maximum(block_codes, inside.add_(2 * k).mul_(wins), out=block_codes)
            torch.maximum(weighted, best, out=best)
        codes[start:stop] = block_codes
        original_areas += torch.stack(areas).long()
    return codes, original_areas


def row_blocks(num_masks: int, target_size: tuple[int, int], device: torch.device) -> list[tuple[int, int]]:
    """(first, last + 1) of the blocks of rows that are computed at once."""
    height, width = target_size
    pixels = BLOCK_ELEMENTS.get(device.type, BLOCK_ELEMENTS["cuda"]) // num_masks
    if device.type == "cpu":
        pixels = min(pixels, CPU_BLOCK_PIXELS)
    rows = max(1, pixels // width)
    return [(start, min(start + rows, height)) for start in range(0, height, rows)]


def merge_segments(
    table: list[list[float]], overlap_mask_area_threshold: float, label_ids_to_fuse: set[int]
) -> tuple[list[int], list[dict[str, Any]]]:
    """Decide per query, in query order, which segment its pixels belong to.

    Args:
        table: per query (score, label, pixels won, pixels won inside the mask, pixels of the mask).

    Returns:
        The segment id of each query (0 = void), and `segments_info`.
    """
    segment_ids: list[int] = []
    segments_info: list[dict[str, Any]] = []
    fused: dict[int, dict[str, Any]] = {}
    for score, label, won_area, inside_area, original_area in table:
        label, score = int(label), round(score, 6)
        if min(won_area, inside_area, original_area) == 0 or won_area / original_area < overlap_mask_area_threshold:
            segment_ids.append(0)
            continue
        segment = fused.get(label)
        if segment is None:
            was_fused = label in label_ids_to_fuse
            segment = {"id": len(segments_info) + 1, "label_id": label, "was_fused": was_fused, "score": score}
            segments_info.append(segment)
            if was_fused:
                fused[label] = segment
        segment["score"] = max(segment["score"], score)
        segment_ids.append(segment["id"])
    return segment_ids, segments_info


@torch.no_grad()
def instance_segmentation(
    class_logits: Tensor,
    mask_logits: Tensor,
    image_size: tuple[int, int],
    target_size: tuple[int, int],
    threshold: float,
    mask_threshold: float,
    return_masks: bool = False,
) -> dict[str, Any]:
    """The `MAX_INSTANCES` (or N, if fewer) best pairs of query and class, as possibly overlapping instances.

    The score of a pair is p * the mean of sigmoid(mask) inside the mask. Pairs with an empty mask or a score below
    `threshold` are left out; the others keep the order of p.

    Returns:
        `segmentation`: int32 (height, width), 0 = void, ids from 1; where instances overlap, the one with the higher
        score is on top, and what has no pixel in the map, as it is covered or shares its query with a better pair, is
        left out. With `return_masks` instead bool (instances, height, width), in the order of `segments_info`.
        `segments_info`: one dict per instance, with `id`, `label_id`, `was_fused` (False) and `score`.
    """
    num_queries, num_labels = class_logits.shape[0], class_logits.shape[-1] - 1
    class_probs = class_logits.float().softmax(-1)[:, :-1]
    pair_probs, pairs = class_probs.flatten().topk(min(MAX_INSTANCES, num_queries))
    queries, mask_of_pair = (pairs // num_labels).unique(return_inverse=True)
    codes, areas, qualities, masks = stack_instances(
        mask_logits[queries], class_probs[queries].amax(-1), image_size, target_size, mask_threshold, return_masks
    )
    scores, labels = pair_probs * qualities[mask_of_pair], pairs % num_labels
    columns = [scores, labels, areas[mask_of_pair], mask_of_pair]
    table = torch.stack([column.double() for column in columns], dim=1).tolist()

    pixels_of_code = codes.flatten().int().bincount(minlength=len(queries) + 1).tolist()

    segments_info: list[dict[str, Any]] = []
    kept_masks: list[int] = []
    id_of_code = [0] * (len(queries) + 1)
    for score, label, area, mask in table:
        mask = int(mask)
        shown_in_map = pixels_of_code[mask + 1] > 0 and not id_of_code[mask + 1]
        if area == 0 or not score >= threshold or not (return_masks or shown_in_map):
            continue
        segment_id = len(segments_info) + 1
        segments_info.append({"id": segment_id, "label_id": int(label), "was_fused": False, "score": round(score, 6)})
        kept_masks.append(mask)
        id_of_code[mask + 1] = segment_id
    segmentation = masks[kept_masks] if return_masks else look_up(id_of_code, codes)
    return {"segmentation": segmentation, "segments_info": segments_info}


def stack_instances(
    mask_logits: Tensor,
    class_probs: Tensor,
    image_size: tuple[int, int],
    target_size: tuple[int, int],
    mask_threshold: float,
    return_masks: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Lay K masks over each other by score, `class_probs` (K,) * mean of sigmoid(mask) inside the mask.

    Returns:
        int16 codes (height, width): k + 1 where mask k is on top, 0 outside of all masks; int64 areas (K,); float32
        means (K,); with `return_masks` the bool masks (K, height, width).
    """
    best = torch.zeros(target_size, device=mask_logits.device)
    codes = torch.zeros(target_size, dtype=torch.int16, device=mask_logits.device)
    areas, qualities, masks = [], [], []
    for k, class_prob in enumerate(class_probs):
        logits = upsample_masks(mask_logits[k : k + 1], image_size, target_size)[0]
        inside = logits > mask_logit(mask_threshold)
        areas.append(inside.sum())
        qualities.append((logits.sigmoid() * inside).sum() / areas[-1].clamp(min=1))
        score = class_prob * qualities[-1]
        on_top = inside & (score > best)
        codes.masked_fill_(on_top, k + 1)
        best = torch.where(on_top, score, best)
        if return_masks:
            masks.append(inside)
    return codes, torch.stack(areas), torch.stack(qualities), torch.stack(masks) if return_masks else None


@torch.no_grad()
def semantic_segmentation(
    class_logits: Tensor,
    mask_logits: Tensor,
    image_size: tuple[int, int],
    target_size: tuple[int, int],
    return_scores: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Per pixel the class with the largest sum over queries of p(class) * sigmoid(mask), in blocks of rows.

    Every pixel gets a class: there is no void in a semantic map.

    Returns:
        int64 map (height, width), and with `return_scores` the float32 sums (C, height, width), else None.
    """
    class_probs = class_logits.float().softmax(-1)[:, :-1]
    height, width = target_size
    rows_per_block = max(1, SEMANTIC_BLOCK_ELEMENTS // (max(class_probs.shape) * width))
    labels, scores = [], []
    upsampling = MaskUpsampling(mask_logits, image_size, target_size)
    for start in range(0, height, rows_per_block):
        masks = upsampling.rows(start, min(start + rows_per_block, height)).sigmoid_()
        block = torch.einsum("nc,nhw->hwc", class_probs, masks)
        labels.append(block.argmax(-1))
        if return_scores:
            scores.append(block.permute(2, 0, 1))
    return torch.cat(labels), torch.cat(scores, dim=1) if return_scores else None


def look_up(id_of_code: list[int], codes: Tensor) -> Tensor:
    """Codes (height, width) -> int32 map (height, width) of segment ids."""
    table = torch.tensor(id_of_code, dtype=torch.int32, device=codes.device)
    return table.index_select(0, codes.flatten().int()).view(codes.shape)


def mask_logit(mask_threshold: float) -> float:
    """The logit whose sigmoid is `mask_threshold`, exactly 0 for 0.5."""
    return torch.tensor(mask_threshold, dtype=torch.float64).logit().item()


def binary_mask_to_rle(mask: Tensor) -> list[int]:
    """Run-length encoding in Transformers' layout: (first pixel counted from 1, length) per run, row by row."""
    pixels = torch.nn.functional.pad(mask.flatten().to(torch.int8), (1, 1))
    edges = pixels.diff().nonzero().flatten() + 1
    edges[1::2] -= edges[::2]
    return edges.tolist()
