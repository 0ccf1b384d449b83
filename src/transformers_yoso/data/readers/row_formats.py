"""From one row of a `datasets` table to a record: the two ways in which panoptic annotations lie in columns."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..categories import CategoryTable
from .decoding import decode_channels, decode_panoptic_png, decode_photo
from .records import PanopticRecord

IGNORE_INDEX = 255
"""Semantic id of void in Transformers, unless the class table gives it to a class."""


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

    A thing's segment is a pair of both ids, whatever the instance id; a stuff class is one segment. Semantic id 255 is
    void unless a class has it. With `do_reduce_labels` id 0 is void and all others are one less before they are looked
    up in the class table.
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
        is_void = np.zeros(semantic.shape, dtype=bool)
        if self.do_reduce_labels:
            is_void, semantic = semantic == 0, semantic - 1
        known = self.categories.label_of_category
        stuff = [category for category, label in known.items() if label in self.categories.stuff_label_ids]
        if IGNORE_INDEX not in known:
            is_void |= semantic == (IGNORE_INDEX - 1 if self.do_reduce_labels else IGNORE_INDEX)
        instance = np.where(np.isin(semantic, stuff), 0, instance)
        pairs = np.where(is_void, -1, semantic.astype(np.int64) << 32 | instance)
        values, ids = np.unique(pairs, return_inverse=True)
        first_segment = int(bool(len(values)) and values[0] == -1)  # void sorts first
        segments_info = [
            {"id": k, "category_id": int(value >> 32)} for k, value in enumerate(values[first_segment:], start=1)
        ]
        return (ids.reshape(semantic.shape) + 1 - first_segment).astype(np.int32), segments_info


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
