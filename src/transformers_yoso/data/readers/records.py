"""What every reader makes first: decoded photo and id map with the source's own ids, and from it the sample."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..categories import CategoryTable
from ..sample import VOID, PanopticSample


@dataclass(frozen=True)
class PanopticRecord:
    """
    A decoded photo with its annotation as the source has it; the dataset checker looks at these.

    Attributes:
        photo: uint8 `(3, height, width)`, RGB, 0-255.
        ids: int32 `(height, width)`, the source's segment ids, 0 for void.
        segments_info: per segment `id` and `category_id`, and where the source has them `iscrowd`, `area`, `bbox`.
        image_id: the dataset's id of the photo.
        file_name: where the photo came from.
        map_name: where the id map came from.
        listed_size: height and width that the annotation file gives for the photo, if it does.
    """

    photo: Tensor
    ids: np.ndarray
    segments_info: Sequence[Mapping[str, Any]]
    image_id: int | str
    file_name: str
    map_name: str
    listed_size: tuple[int, int] | None = None

    def to_sample(self, categories: CategoryTable) -> PanopticSample:
        """
        The sample; its segments come in the order of `segments_info`.

        A listed segment without a pixel stays: the reference evaluation counts it as missed. It is no training target.

        Raises:
            ValueError: photo and map differ in size, an id of the map is not in `segments_info`, a segment id is 0 or
                occurs twice, or a category is unknown. The message names the file.
        """
        if self.photo.shape[1:] != self.ids.shape:
            raise ValueError(
                f"{self.map_name}: the id map is {self.ids.shape[0]}x{self.ids.shape[1]} but its photo "
                f"{self.file_name} is {self.photo.shape[1]}x{self.photo.shape[2]} (height x width)."
            )
        if problems := segment_problems(self.segments_info, categories):
            raise ValueError(f"{self.map_name}: {problems[0]}")
        segment_map = compact_segment_map(self.ids, [info["id"] for info in self.segments_info], self.map_name)
        labels = [categories.label_of_category[info["category_id"]] for info in self.segments_info]
        is_crowd = [bool(info.get("iscrowd", 0)) for info in self.segments_info]
        return PanopticSample(
            image=self.photo,
            segment_map=torch.from_numpy(segment_map),
            class_labels=torch.tensor(labels, dtype=torch.int64),
            is_crowd=torch.tensor(is_crowd, dtype=torch.bool),
            image_id=self.image_id,
            file_name=self.file_name,
        )


def segment_problems(segments_info: Sequence[Mapping[str, Any]], categories: CategoryTable) -> list[str]:
    """What is wrong with one photo's `segments_info` by itself, one sentence per fault."""
    incomplete = [dict(info) for info in segments_info if "id" not in info or "category_id" not in info]
    if incomplete:
        return [f"a segment of `segments_info` lacks `id` or `category_id`: {incomplete[0]}."]
    problems = [
        f"segment {info['id']} has category {info['category_id']}, which `categories` does not list."
        for info in segments_info
        if info["category_id"] not in categories.label_of_category
    ]
    ids = [info["id"] for info in segments_info]
    if len(set(ids)) != len(ids) or 0 in ids:
        problems.append(f"segment ids must be unique and not 0 (0 means void), got {sorted(ids)}.")
    return problems


def compact_segment_map(ids: np.ndarray, segment_ids: Sequence[int], source: str) -> np.ndarray:
    """
    Renumbers an id map by position in `segment_ids`.

    Args:
        ids: integer `(height, width)`, 0 for void.
        segment_ids: the ids that may occur.
        source: file name for the error message.

    Returns:
        int32 `(height, width)` with `k` where `ids == segment_ids[k]` and -1 at void.

    Raises:
        ValueError: `ids` holds an id that `segment_ids` lacks.
    """
    values, lengths = _runs(ids)
    known = np.array([0, *segment_ids], dtype=np.int64)
    order = np.argsort(known)
    index = order[np.searchsorted(known, values, sorter=order).clip(max=len(known) - 1)]
    strangers = np.unique(values[known[index] != values])
    if len(strangers):
        raise ValueError(f"{source}: ids {strangers[:10].tolist()} in the map are absent from its `segments_info`.")
    return np.repeat((index + VOID).astype(np.int32), lengths).reshape(ids.shape)


def _runs(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Value and length of each run of equal pixels in reading order: a few thousand instead of all the pixels."""
    flat = ids.ravel()
    if not flat.size:
        return flat, np.zeros(0, dtype=np.int64)
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    return flat[starts], np.diff(starts, append=flat.size)
