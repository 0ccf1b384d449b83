"""Looks at one photo and its annotation."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from ..categories import CategoryTable
from ..readers import PanopticDataset, PanopticRecord
from .findings import (
    ANNOTATION,
    AREA,
    BOX,
    EMPTY,
    MOSTLY_CROWD,
    MOSTLY_VOID,
    NO_PIXELS,
    SIZE,
    TOO_MANY_SEGMENTS,
    UNKNOWN_CATEGORY,
    UNKNOWN_ID,
    UNREADABLE,
    Finding,
    Kind,
    PhotoFacts,
)

LIKENESS_SIDE = 16


@dataclass(frozen=True)
class Limits:
    """
    What is taken as normal.

    Attributes:
        num_queries: the model's proposal kernels; more segments than these cannot all be found.
        max_void_share: of a photo's pixels.
        max_crowd_share: of a photo's pixels.
    """

    num_queries: int = 100
    max_void_share: float = 0.5
    max_crowd_share: float = 0.3


class PhotoChecks(Dataset[tuple[list[Finding], PhotoFacts | None]]):
    """The checks of every photo of a split, by index, for a `DataLoader`'s workers."""

    def __init__(self, dataset: PanopticDataset, split: str, limits: Limits):
        self.dataset, self.split, self.limits = dataset, split, limits

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[list[Finding], PhotoFacts | None]:
        try:
            record = self.dataset.read_record(index)
        except (ValueError, OSError) as error:
            return [Finding(UNREADABLE, self.split, str(error), index)], None
        messages, facts = check_record(record, self.dataset.categories, index, self.limits)
        return [Finding(kind, self.split, f"{where}: {text}", index) for kind, where, text in messages], facts


Message = tuple[Kind, str, str]
"""Kind of fault, file, and what is wrong."""


def check_record(
    record: PanopticRecord, categories: CategoryTable, index: int, limits: Limits
) -> tuple[list[Message], PhotoFacts | None]:
    """All faults of one photo, and its facts unless map and photo do not fit together."""
    size = tuple(record.photo.shape[1:])
    if size != record.ids.shape:
        text = f"the map is {record.ids.shape[0]}x{record.ids.shape[1]} but the photo {size[0]}x{size[1]}"
        return [(SIZE, record.map_name, text)], None
    values, inverse, areas = np.unique(record.ids, return_inverse=True, return_counts=True)
    area_of = dict(zip(values.tolist(), areas.tolist(), strict=True))
    infos = {info["id"]: info for info in record.segments_info if {"id", "category_id"} <= info.keys()}
    messages = [
        *_check_form(record),
        *_check_ids(record, area_of, infos, categories),
        *_check_boxes(record, infos, values, inverse.reshape(record.ids.shape)),
    ]
    facts = _facts(record, categories, index, area_of, infos)
    messages.extend((kind, record.file_name, text) for kind, text in _check_shares(facts, limits))
    return messages, facts


def _check_form(record: PanopticRecord) -> list[Message]:
    messages: list[Message] = []
    size = tuple(record.photo.shape[1:])
    if record.listed_size is not None and record.listed_size != size:
        text = f"the annotation file lists {record.listed_size[0]}x{record.listed_size[1]}, the photo is {size[0]}x{size[1]}"
        messages.append((SIZE, record.file_name, text))
    incomplete = [dict(info) for info in record.segments_info if not {"id", "category_id"} <= info.keys()]
    if incomplete:
        messages.append((ANNOTATION, record.map_name, f"a segment lacks `id` or `category_id`: {incomplete[0]}"))
    ids = Counter(info["id"] for info in record.segments_info if "id" in info)
    if doubles := sorted(segment_id for segment_id, count in ids.items() if count > 1):
        messages.append((ANNOTATION, record.map_name, f"the segment ids {doubles} occur more than once"))
    if 0 in ids:
        messages.append((ANNOTATION, record.map_name, "a segment has the id 0, which means void"))
    return messages


def _check_ids(
    record: PanopticRecord,
    area_of: Mapping[int, int],
    infos: Mapping[int, Mapping[str, Any]],
    categories: CategoryTable,
) -> list[Message]:
    messages = []
    if strangers := sorted(area_of.keys() - infos.keys() - {0}):
        pixels = sum(area_of[segment_id] for segment_id in strangers)
        text = f"ids {strangers[:10]} ({pixels} pixels) are not in `segments_info`"
        messages.append((UNKNOWN_ID, record.map_name, text))
    for segment_id, info in infos.items():
        if info["category_id"] not in categories.label_of_category:
            text = f"segment {segment_id} has category {info['category_id']}, which the class table does not list"
            messages.append((UNKNOWN_CATEGORY, record.map_name, text))
        area = area_of.get(segment_id, 0)
        if not area:
            messages.append((NO_PIXELS, record.map_name, f"segment {segment_id} has no pixel in the map"))
        elif info.get("area") is not None and round(info["area"]) != area:
            messages.append((AREA, record.map_name, f"segment {segment_id} has {area} pixels, not {info['area']}"))
    return messages


def _check_boxes(
    record: PanopticRecord, infos: Mapping[int, Mapping[str, Any]], values: np.ndarray, inverse: np.ndarray
) -> list[Message]:
    """Boxes (left, top, width, height) that are more than a pixel off the segment's bounds."""
    from scipy import ndimage

    messages = []
    bounds = ndimage.find_objects(inverse + 1, max_label=len(values))
    for segment_id, window in zip(values.tolist(), bounds, strict=True):
        box = infos.get(segment_id, {}).get("bbox")
        if not box:
            continue
        rows, columns = window
        actual = (columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)
        edges = (box[0], box[1], box[0] + box[2], box[1] + box[3])
        actual_edges = (columns.start, rows.start, columns.stop, rows.stop)
        if len(box) != 4 or max(abs(a - b) for a, b in zip(edges, actual_edges, strict=True)) > 1:
            text = f"segment {segment_id} lies in the box {list(actual)}, not {list(box)} (left, top, width, height)"
            messages.append((BOX, record.map_name, text))
    return messages


def _check_shares(facts: PhotoFacts, limits: Limits) -> list[tuple[Kind, str]]:
    messages = []
    count = facts.segments.total()
    if not count:
        messages.append((EMPTY, "no segment that could be learnt"))
    if count > limits.num_queries:
        messages.append((TOO_MANY_SEGMENTS, f"{count} segments for {limits.num_queries} queries"))
    if facts.void_share > limits.max_void_share and count:
        messages.append((MOSTLY_VOID, f"{100 * facts.void_share:.0f} % of the pixels are void"))
    if facts.crowd_share > limits.max_crowd_share:
        messages.append((MOSTLY_CROWD, f"{100 * facts.crowd_share:.0f} % of the pixels are crowd"))
    return messages


def _facts(
    record: PanopticRecord,
    categories: CategoryTable,
    index: int,
    area_of: Mapping[int, int],
    infos: Mapping[int, Mapping[str, Any]],
) -> PhotoFacts:
    segments: Counter[int] = Counter()
    pixels: Counter[int] = Counter()
    num_crowds = crowd_pixels = 0
    for segment_id, info in infos.items():
        label, area = categories.label_of_category.get(info["category_id"]), area_of.get(segment_id, 0)
        if label is None or not area:
            continue
        if info.get("iscrowd"):
            num_crowds, crowd_pixels = num_crowds + 1, crowd_pixels + area
        else:
            segments[label] += 1
        pixels[label] += area
    photo = np.ascontiguousarray(record.photo.permute(1, 2, 0).numpy())
    return PhotoFacts(
        index=index,
        file_name=record.file_name,
        size=record.ids.shape,
        segments=segments,
        pixels=pixels,
        num_crowds=num_crowds,
        crowd_share=crowd_pixels / record.ids.size,
        void_share=area_of.get(0, 0) / record.ids.size,
        content_hash=f"{photo.shape}{hashlib.blake2b(photo.data, digest_size=16).hexdigest()}",
        likeness=likeness_bits(photo),
    )


def likeness_bits(photo: np.ndarray) -> np.ndarray:
    """Difference hash: whether each cell of a 16 x 16 grid is brighter than its right neighbour, bool `(256,)`."""
    grey = Image.fromarray(photo).convert("L").resize((LIKENESS_SIDE + 1, LIKENESS_SIDE), Image.Resampling.BOX)
    cells = np.asarray(grey, dtype=np.int16)
    return (cells[:, 1:] < cells[:, :-1]).ravel()
