"""From a map of segment ids to the segments the model is trained on."""

from collections.abc import Mapping

import torch
from torch import Tensor

VOID = -1
"""Value of void and padding in a compact id map."""


def compact_id_map(
    ids: Tensor,
    instance_id_to_semantic_id: Mapping[int, int] | None,
    ignore_index: int | None,
    do_reduce_labels: bool,
    zero_is_void: bool,
) -> tuple[Tensor, Tensor]:
    """Number the segments of a map and look up their classes.

    Without `instance_id_to_semantic_id` the ids are the classes. Void are the pixels whose id is `ignore_index`; those
    with id 0 if `zero_is_void` or `do_reduce_labels`, or if the mapping does not name 0; and those whose class is
    negative. `do_reduce_labels` lowers every class by one, so class 0 becomes void.

    Args:
        ids: int64 (height, width).

    Returns:
        int32 map (height, width) whose value k is segment k, in ascending order of id, and -1 void; int64 classes (n,).

    Raises:
        ValueError: ids that the mapping does not name.
    """
    present = ids.flatten().unique_consecutive().unique()
    classes, unknown = [], []
    for segment_id in present.tolist():
        if segment_id == ignore_index or (segment_id == 0 and (zero_is_void or do_reduce_labels)):
            semantic_id = VOID
        elif instance_id_to_semantic_id is None:
            semantic_id = segment_id
        elif segment_id in instance_id_to_semantic_id:
            semantic_id = int(instance_id_to_semantic_id[segment_id])
        elif segment_id == 0:
            semantic_id = VOID
        else:
            unknown.append(segment_id)
            continue
        classes.append(semantic_id - 1 if do_reduce_labels else semantic_id)
    if unknown:
        raise ValueError(
            f"the segmentation map holds the ids {unknown[:10]}{' and more' if len(unknown) > 10 else ''}, which "
            "`instance_id_to_semantic_id` does not name. Add them (-1 makes an id void), or set their pixels to "
            "`ignore_index` or 0."
        )
    class_labels = torch.tensor(classes, dtype=torch.int64, device=ids.device)
    is_segment = class_labels >= 0
    number = torch.where(is_segment, is_segment.cumsum(0) - 1, VOID).to(torch.int32)
    return number[torch.searchsorted(present, ids)], class_labels[is_segment]


def binary_masks(compact_ids: Tensor, num_segments: int) -> Tensor:
    """Compact id map (height, width) -> bool masks (num_segments, height, width)."""
    return compact_ids == torch.arange(num_segments, device=compact_ids.device)[:, None, None]
