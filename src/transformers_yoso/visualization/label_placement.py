"""Where labels go: inside their own segments, so that they neither collide nor leave the picture."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from .colors import Color
from .lettering import Label, chip_box, chip_size, overlap
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
    rows: np.ndarray, label_ids: Sequence[int], texts: Sequence[Sequence[str]], colors: Sequence[Color]
) -> list[Label]:
    """
    A place for each label where its whole box lies inside its own segment, as far from the border as can be.

    Boxes inside disjoint segments cannot collide and cannot leave the picture. Per segment the longest text in the
    largest font that fits is taken. A segment with no room for its shortest text in the smallest font gets none,
    but for the roomiest one of a class that would else go unnamed (see `name_remaining_classes`).
    """
    height, width = rows.shape
    stride = -(-max(height, width) // PLACEMENT_GRID)
    grid = rows[::stride, ::stride]
    distance = border_distance(grid)
    base = (height * width) ** 0.5 / 40
    sizes = sorted({max(MIN_FONT_SIZE, round(base * scale)) for scale in FONT_SCALES}, reverse=True)
    labels: dict[int, Label] = {}
    poles: dict[int, tuple[float, Label]] = {}
    for k, window in enumerate(ndimage.find_objects(grid, max_label=len(texts))):
        if window is None:
            continue
        mask, corner = grid[window] == k + 1, np.array([window[0].start, window[1].start])
        place = fit_label(mask, distance[window], texts[k], sizes, stride)
        if place is not None:
            text, font_size, cell = place
            y, x = (corner + cell) * stride
            labels[k] = Label(text, (float(x), float(y)), font_size, colors[k])
        pole = np.unravel_index(np.argmax(np.where(mask, distance[window], -1.0)), mask.shape)
        y, x = (corner + pole + 0.5) * stride
        poles[k] = (float(distance[window][pole]), Label(texts[k][-1], (float(x), float(y)), sizes[-1], colors[k]))
    return [*labels.values(), *name_remaining_classes(labels, poles, label_ids, (width, height))]


def name_remaining_classes(
    labels: Mapping[int, Label],
    poles: Mapping[int, tuple[float, Label]],
    label_ids: Sequence[int],
    picture_size: tuple[int, int],
) -> list[Label]:
    """
    One label for each class that has none: centred at the pole of its roomiest segment.

    Such a box may reach over its segment's border. It is left out if it would leave the picture (`picture_size` is
    width and height in pixels) or touch another label.
    """
    named = {label_ids[k] for k in labels}
    boxes = [chip_box(label) for label in labels.values()]
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
    mask: np.ndarray, distance: np.ndarray, texts: Sequence[str], sizes: Sequence[int], stride: int
) -> tuple[str, int, tuple[float, float]] | None:
    """The first (text, font size, centre in cells) whose chip fits into `mask`, or None."""
    sums = np.pad(mask, ((1, 0), (1, 0))).cumsum(0, dtype=np.int32).cumsum(1, dtype=np.int32)
    for font_size in sizes:
        for text in texts:
            box_width, box_height = (-(-int(side) // stride) + 2 for side in chip_size(text, font_size))
            if box_height > mask.shape[0] or box_width > mask.shape[1]:
                continue
            covered = (
                sums[box_height:, box_width:]
                - sums[:-box_height, box_width:]
                - sums[box_height:, :-box_width]
                + sums[:-box_height, :-box_width]
            )
            fits = covered == box_height * box_width
            if fits.any():
                top, left = box_height // 2, box_width // 2
                room = distance[top : top + fits.shape[0], left : left + fits.shape[1]]
                y, x = np.unravel_index(np.argmax(np.where(fits, room, -1.0)), fits.shape)
                return text, font_size, (y + box_height / 2, x + box_width / 2)
    return None
