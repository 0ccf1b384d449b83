"""Where labels go: inside their own segments, so that they neither collide nor leave the picture."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from .colors import Color
from .lettering import Box, Label, chip_box, chip_size, overlap
from .segment_maps import outline_mask

PLACEMENT_GRID = 320
"""Cells along the longer side of the grid on which labels are placed."""

FONT_SCALES = (1.0, 0.85, 0.7)
MIN_FONT_SIZE = 9


def label_texts(info: Mapping[str, Any], id2label: Mapping[int, str]) -> list[str]:
    """What a segment's label may say, longest first: name with score, name."""
    name = id2label.get(int(info["label_id"]), str(info["label_id"]))
    return [name] if info.get("score") is None else [f"{name} {100 * info['score']:.0f}%", name]


def place_labels(
    rows: np.ndarray,
    label_ids: Sequence[int],
    texts: Sequence[Sequence[str]],
    colors: Sequence[Color],
    taken: Sequence[Box] = (),
) -> list[Label]:
    """
    A place for each label where its whole box lies inside its own segment, as far from the border as can be.

    Boxes inside disjoint segments cannot collide and cannot leave the picture. Per segment the longest text in the
    largest font that fits is taken. A segment with no room for its shortest text in the smallest font gets none,
    but for the roomiest one of a class that would else go unnamed (see `name_remaining_classes`). Boxes in `taken`,
    in pixels, stay free.
    """
    height, width = rows.shape
    stride = -(-max(height, width) // PLACEMENT_GRID)
    grid = without_boxes(rows[::stride, ::stride], taken, stride)
    distance = border_distance(grid)
    base = (height * width) ** 0.5 / 40
    sizes = sorted({max(MIN_FONT_SIZE, round(base * scale)) for scale in FONT_SCALES}, reverse=True)
    labels: dict[int, Label] = {}
    poles: dict[int, tuple[float, Label]] = {}
    for k, window in enumerate(ndimage.find_objects(grid, max_label=len(texts))):
        if window is None:
            continue
        mask, corner = grid[window] == k + 1, np.array([window[0].start, window[1].start])
        room = np.where(mask, distance[window], -1.0)
        place = fit_label(mask, room, texts[k], sizes, stride)
        if place is not None:
            text, font_size, cell = place
            y, x = (corner + cell) * stride
            labels[k] = Label(text, (float(x), float(y)), font_size, colors[k])
        pole = np.unravel_index(np.argmax(room), room.shape)
        y, x = (corner + pole + 0.5) * stride
        poles[k] = (float(room[pole]), Label(texts[k][-1], (float(x), float(y)), sizes[-1], colors[k]))
    return [*labels.values(), *name_remaining_classes(labels, poles, label_ids, (width, height), taken)]


def without_boxes(grid: np.ndarray, boxes: Sequence[Box], stride: int) -> np.ndarray:
    """The grid with void under boxes (in pixels)."""
    if boxes:
        grid = grid.copy()
    for left, top, right, bottom in boxes:
        grid[int(top) // stride : int(bottom) // stride + 1, int(left) // stride : int(right) // stride + 1] = 0
    return grid


def name_remaining_classes(
    labels: Mapping[int, Label],
    poles: Mapping[int, tuple[float, Label]],
    label_ids: Sequence[int],
    picture_size: tuple[int, int],
    taken: Sequence[Box],
) -> list[Label]:
    """
    One label for each class that has none: centred at the pole of its roomiest segment.

    Such a box may reach over its segment's border. It is left out if it would leave the picture (`picture_size` is
    width and height in pixels) or touch another label or a box in `taken`.
    """
    named = {label_ids[k] for k in labels}
    boxes = [*taken, *(chip_box(label) for label in labels.values())]
    extra = []
    for k, (_, label) in sorted(poles.items(), key=lambda item: -item[1][0]):
        box = chip_box(label)
        inside = box[0] >= 0 and box[1] >= 0 and box[2] <= picture_size[0] and box[3] <= picture_size[1]
        if label_ids[k] not in named and inside and not any(overlap(box, other) for other in boxes):
            named.add(label_ids[k])
            boxes.append(box)
            extra.append(label)
    return extra


def border_distance(grid: np.ndarray) -> np.ndarray:
    """Distance of each cell to the nearest cell of another segment or outside of the picture."""
    inside = np.pad(~outline_mask(grid, width=1), 1)
    return ndimage.distance_transform_edt(inside)[1:-1, 1:-1]


def fit_label(
    mask: np.ndarray, room: np.ndarray, texts: Sequence[str], sizes: Sequence[int], stride: int
) -> tuple[str, int, tuple[float, float]] | None:
    """The first (text, font size, centre in cells) whose chip fits into `mask`, where `room` is largest; or None."""
    chips = [
        (text, font_size, *(-(-int(side) // stride) + 2 for side in chip_size(text, font_size)))
        for font_size in sizes
        for text in texts
    ]
    chips = [chip for chip in chips if chip[2] <= mask.shape[1] and chip[3] <= mask.shape[0]]
    if not chips:
        return None
    sums = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), dtype=np.int32)
    mask.cumsum(0, dtype=np.int32).cumsum(1, out=sums[1:, 1:])
    for text, font_size, width, height in chips:
        covered = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
        fits = covered == height * width
        if fits.any():
            room_at_center = room[height // 2 :, width // 2 :][: fits.shape[0], : fits.shape[1]]
            y, x = np.unravel_index(np.argmax(np.where(fits, room_at_center, -1.0)), fits.shape)
            return text, font_size, (y + height / 2, x + width / 2)
    return None
