"""Parts of COCO's formats: RGB ids, segment entries, run lengths."""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from .errors import MissingPackageError

if TYPE_CHECKING:
    from .prediction import Segment


def ids_to_rgb(ids: np.ndarray) -> np.ndarray:
    """Segment ids (H, W) below 2^24 -> uint8 (H, W, 3) with id = R + 256 G + 65536 B."""
    four_bytes = np.ascontiguousarray(ids, dtype="<i4").view(np.uint8).reshape(*ids.shape, 4)
    return np.ascontiguousarray(four_bytes[..., :3])


def png_name(source: str | None, image_id: int) -> str:
    """Name of the PNG map of a photo."""
    return f"{png_stem(image_id)}.png" if source is None else f"{Path(source).stem}.png"


def png_stem(image_id: int | str) -> str:
    """COCO's twelve digits, or a text id without characters that a file name cannot hold."""
    return f"{image_id:012d}" if isinstance(image_id, int) else quote(image_id, safe="")


def xywh(box: tuple[int, int, int, int]) -> list[int]:
    """(x_min, y_min, x_max, y_max) -> [x, y, width, height]."""
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]


def panoptic_segment(segment: "Segment", category_ids: Mapping[int, int] | None = None) -> dict[str, Any]:
    """An entry of `segments_info`, with the `score` where there is one."""
    entry = {
        "id": segment.id,
        "category_id": segment.label_id if category_ids is None else category_ids[segment.label_id],
        "area": segment.area,
        "bbox": xywh(segment.box),
        "iscrowd": 0,
    }
    return entry if segment.score is None else entry | {"score": segment.score}


def categories(id2label: Mapping[int, str], stuff_label_ids: list[int]) -> list[dict[str, Any]]:
    """The `categories` of a panoptic JSON, with label ids as category ids."""
    return [
        {"id": label_id, "name": name, "supercategory": name, "isthing": int(label_id not in stuff_label_ids)}
        for label_id, name in id2label.items()
    ]


def compressed_rle(rows: np.ndarray, count: int) -> list[dict[str, Any]]:
    """
    COCO's compressed run lengths of each of `count` segments, from one pass over the map.

    Args:
        rows: (H, W) with k + 1 where segment k lies.

    Raises:
        MissingPackageError: pycocotools is not installed.
    """
    coco_mask = import_coco_mask()
    height, width = rows.shape
    runs = [{"size": [height, width], "counts": counts} for counts in run_lengths(rows, count)]
    encoded = coco_mask.frPyObjects(runs, height, width)
    return [rle | {"counts": rle["counts"].decode()} for rle in encoded]


def import_coco_mask() -> ModuleType:
    """The module `pycocotools.mask`.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        from pycocotools import mask
    except ImportError as error:
        raise MissingPackageError("Run lengths need pycocotools: pip install 'transformers-yoso[rle]'") from error
    return mask


def run_lengths(rows: np.ndarray, count: int) -> list[list[int]]:
    """Per segment the lengths of runs outside and inside of it in turn, column by column."""
    flat = rows.T.ravel()
    starts = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]]))
    stops = np.append(starts[1:], flat.size)
    owners = flat[starts]
    by_owner = np.argsort(owners, kind="stable")
    bounds = np.searchsorted(owners[by_owner], np.arange(1, count + 2))
    result = []
    for first, last in pairwise(bounds):
        runs = by_owner[first:last]
        edges = np.stack([starts[runs], stops[runs]], axis=1).ravel()
        lengths = np.diff(edges, prepend=0, append=flat.size).tolist()
        result.append(lengths if lengths[-1] else lengths[:-1])
    return result
