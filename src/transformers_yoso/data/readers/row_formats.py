"""From one row of a `datasets` table to a record: the two ways in which panoptic annotations lie in columns."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from ..categories import CategoryTable
from .decoding import decode_channels, decode_panoptic_png, decode_photo
from .records import PanopticRecord

VOID_IDS = (0, 255)
"""Semantic ids that are void unless the class table gives them to a class."""


class RowFormat(Protocol):
    """How a row becomes a record."""

    @property
    def picture_columns(self) -> tuple[str, ...]:
        """Columns with pictures, which are kept encoded until a row is read."""

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that a row must have."""

    def read(self, row: Mapping[str, Any], index: int, source: str) -> PanopticRecord:
        """Decodes a row; raises `ValueError` naming `source` and `index`."""


@dataclass(frozen=True)
class SegmentsInfoFormat:
    """Photo, COCO panoptic PNG, and per segment at least `id` and `category_id` (a list, or JSON text)."""

    image_column: str
    annotation_column: str
    segments_info_column: str

    @property
    def picture_columns(self) -> tuple[str, ...]:
        return self.image_column, self.annotation_column

    @property
    def columns(self) -> tuple[str, ...]:
        return *self.picture_columns, self.segments_info_column

    def read(self, row: Mapping[str, Any], index: int, source: str) -> PanopticRecord:
        name = row_name(row, index, source, self.image_column)
        map_name = f"{name}, column `{self.annotation_column}`"
        segments_info = _list_of_segments(row[self.segments_info_column], f"{name}, `{self.segments_info_column}`")
        return PanopticRecord(
            photo=decode_photo(row[self.image_column], f"{name}, column `{self.image_column}`"),
            ids=decode_panoptic_png(row[self.annotation_column], map_name),
            segments_info=segments_info,
            image_id=row.get("image_id", index),
            file_name=name,
            map_name=map_name,
        )


@dataclass(frozen=True)
class SemanticInstanceFormat:
    """
    Photo and a map with the semantic id in the first channel and the instance id in the second.

    A thing's segment is a pair of both ids, whatever the instance id; a stuff class is one segment. Semantic ids 0 and 255
    are void unless a class has them. With `do_reduce_labels` 0 is void and all others are one less before they are
    looked up in the class table.
    """

    image_column: str
    annotation_column: str
    categories: CategoryTable
    do_reduce_labels: bool = False

    @property
    def picture_columns(self) -> tuple[str, ...]:
        return self.image_column, self.annotation_column

    @property
    def columns(self) -> tuple[str, ...]:
        return self.picture_columns

    def read(self, row: Mapping[str, Any], index: int, source: str) -> PanopticRecord:
        name = row_name(row, index, source, self.image_column)
        map_name = f"{name}, column `{self.annotation_column}`"
        ids, segments_info = self._segments(decode_channels(row[self.annotation_column], map_name), map_name)
        return PanopticRecord(
            photo=decode_photo(row[self.image_column], f"{name}, column `{self.image_column}`"),
            ids=ids,
            segments_info=segments_info,
            image_id=row.get("image_id", index),
            file_name=name,
            map_name=map_name,
        )

    def _segments(self, channels: np.ndarray, map_name: str) -> tuple[np.ndarray, list[dict[str, int]]]:
        has_instances = channels.shape[2] > 1
        if not has_instances and len(self.categories.stuff_label_ids) < self.categories.num_labels:
            raise ValueError(
                f"{map_name}: the map has one channel, but things need an instance id in the second. If the data has "
                "no instances, list all classes in `stuff_category_ids`."
            )
        semantic = channels[..., 0].astype(np.int32)
        instance = channels[..., 1].astype(np.int32) if has_instances else np.zeros_like(semantic)
        values, inverse = np.unique(semantic.astype(np.int64) << 32 | instance, return_inverse=True)
        segment_of: dict[tuple[int, int], int] = {}
        ids = np.zeros(len(values), dtype=np.int32)
        for k, value in enumerate(values.tolist()):
            category, number = value >> 32, value & 0xFFFFFFFF
            if not self._is_void(category):
                category -= self.do_reduce_labels
                key = (category, 0 if category in self._stuff_ids else number)
                ids[k] = segment_of.setdefault(key, len(segment_of) + 1)
        segments_info = [{"id": k, "category_id": category} for (category, _), k in segment_of.items()]
        return ids[inverse.reshape(semantic.shape)], segments_info

    def _is_void(self, category: int) -> bool:
        """Whether a semantic id, as it lies in the map, means void."""
        if self.do_reduce_labels:
            return category == 0 or (category == 255 and 254 not in self.categories.label_of_category)
        return category in VOID_IDS and category not in self.categories.label_of_category

    @cached_property
    def _stuff_ids(self) -> set[int]:
        stuff = set(self.categories.stuff_label_ids)
        return {category for category, label in self.categories.label_of_category.items() if label in stuff}


def row_name(row: Mapping[str, Any], index: int, source: str, image_column: str) -> str:
    """How messages call a row: by its source, its number, and the photo's file name if it is known."""
    image = row.get(image_column)
    path = image.get("path") if isinstance(image, Mapping) else None
    return f"{source}, row {index}" + (f" ({path})" if path else "")


def _list_of_segments(value: Any, name: str) -> list[dict[str, Any]]:
    """`segments_info` as a list of dicts, from that, from JSON text, or from a dict of lists."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise ValueError(f"{name}: not valid JSON ({error}).") from error
    if isinstance(value, Mapping):
        value = [dict(zip(value, fields, strict=True)) for fields in zip(*value.values(), strict=True)]
    if not isinstance(value, list) or not all(isinstance(info, Mapping) for info in value):
        raise ValueError(f"{name}: must be a list of segments with `id` and `category_id`.")
    return [{key: field for key, field in info.items() if field is not None} for info in value]
