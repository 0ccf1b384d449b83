"""Pictures of errors: a few of each cause, drawn at random while the dataset passes by."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ..data.drawing import draw_sample
from ..picture_sheet import Tile, save_sheet
from ..visualization import outline_mask
from .drawing import draw_prediction
from .error_causes import FALSE_CAUSES, MISS_CAUSES
from .prediction import Prediction

LEAST_CROP = 96
"""Least side of an example in pixels."""
FILL_OPACITY = 0.35
LEAST_AREA = 64
"""Segments of fewer pixels are no example: nobody can see them."""
FRAME_COLOR = (255, 255, 0)
FRAME_WIDTH = 1


class ErrorExamples:
    """
    Keeps up to `count` examples per cause, each seen error with the same chance (reservoir sampling).

    Args:
        id2label: names of the labels.
        count: examples per cause.
        seed: of the choice.
    """

    def __init__(self, id2label: Mapping[int, str], count: int = 3, seed: int = 0):
        self.id2label, self.count = id2label, count
        self.generator = np.random.default_rng(seed)
        self.seen: Counter[tuple[str, str]] = Counter()
        self.tiles: dict[tuple[str, str], list[tuple[Tile, Tile]]] = {}

    def add(
        self, prediction: Prediction, miss_causes: Sequence[str | None], false_causes: Sequence[str | None]
    ) -> None:
        """
        Offers the errors of an image.

        Args:
            prediction: with panoptic results.
            miss_causes: per true segment.
            false_causes: per predicted segment, in the order of `segments_info`.
        """
        sample, panoptic = prediction.sample, prediction.panoptic
        true_map, predicted_map = sample.segment_map.numpy(), panoptic["segmentation"].numpy()
        labels = sample.class_labels.tolist()
        for k, cause in enumerate(miss_causes):
            if cause in MISS_CAUSES:
                self._offer(("missed", cause), true_map == k, self.id2label[labels[k]], prediction)
        for segment, cause in zip(panoptic["segments_info"], false_causes, strict=True):
            if cause in FALSE_CAUSES:
                name = self.id2label[segment["label_id"]]
                self._offer(("false", cause), predicted_map == segment["id"], name, prediction)

    def save(self, path: Path) -> None:
        """Saves the sheet: a row per cause; of each example the prediction and the truth, with the segment framed."""
        order = [*(("missed", cause) for cause in MISS_CAUSES), *(("false", cause) for cause in FALSE_CAUSES)]
        rows = [[tile for pair in self.tiles[kind] for tile in pair] for kind in order if kind in self.tiles]
        if rows:
            save_sheet(rows, path, "Errors by cause: prediction and truth around a framed segment")

    def _offer(self, kind: tuple[str, str], mask: np.ndarray, name: str, prediction: Prediction) -> None:
        if mask.sum() < LEAST_AREA:
            return
        self.seen[kind] += 1
        kept = self.tiles.setdefault(kind, [])
        place = len(kept) if len(kept) < self.count else int(self.generator.integers(self.seen[kind]))
        if place < self.count:
            kept[place : place + 1] = [self._draw(kind, mask, name, prediction)]

    def _draw(self, kind: tuple[str, str], mask: np.ndarray, name: str, prediction: Prediction) -> tuple[Tile, Tile]:
        sample, box = prediction.sample, _crop_box(mask)
        predicted = draw_prediction(prediction, self.id2label, FILL_OPACITY)
        true = draw_sample(sample, self.id2label, alpha=FILL_OPACITY)
        caption = f"{kind[0]}: {kind[1]}\n{name}, {Path(sample.file_name).name}"
        return (
            Tile(_frame(predicted, mask).crop(box), f"{caption}, predicted"),
            Tile(_frame(true, mask).crop(box), f"{caption}, true"),
        )


def _crop_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of a box of twice the segment's extent around it, inside the picture."""
    ends = [_crop_range(np.flatnonzero(mask.any(axis)), mask.shape[1 - axis]) for axis in (0, 1)]
    (left, right), (top, bottom) = ends
    return left, top, right, bottom


def _crop_range(inside: np.ndarray, length: int) -> tuple[int, int]:
    first, last = int(inside[0]), int(inside[-1]) + 1
    side = min(max(2 * (last - first), LEAST_CROP), length)
    start = min(max((first + last - side) // 2, 0), length - side)
    return start, start + side


def _frame(picture: Image.Image, mask: np.ndarray) -> Image.Image:
    """The picture with the border of the segment in yellow."""
    pixels = np.array(picture)
    pixels[outline_mask(mask.astype(np.uint8), width=FRAME_WIDTH)] = FRAME_COLOR
    return Image.fromarray(pixels)
