"""Sheets of captioned pictures, and the one of the photos with the best and the worst scores."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from matplotlib.figure import Figure
from PIL import Image
from torch.utils.data import Dataset

from ..data import PanopticSample
from ..visualization import draw_panoptic
from .prediction import Prediction, predict_dataset

TILE_INCHES = 3.2
DOTS_PER_INCH = 120


class Tile(NamedTuple):
    """A picture and the text above it."""

    picture: Image.Image
    caption: str


def save_sheet(rows: Sequence[Sequence[Tile]], path: Path, title: str) -> None:
    """Draws rows of tiles under a title and saves them as a picture file; rows may differ in length."""
    columns = max(len(row) for row in rows)
    figure = Figure(
        figsize=(columns * TILE_INCHES, len(rows) * TILE_INCHES + 0.5), dpi=DOTS_PER_INCH, layout="constrained"
    )
    figure.suptitle(title, fontsize=10)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for row, row_axes in zip(rows, axes, strict=True):
        for tile, axis in zip(row, row_axes, strict=False):
            axis.imshow(tile.picture)
            axis.set_title(tile.caption, fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def save_best_and_worst(
    model: torch.nn.Module,
    image_processor: Any,
    dataset: Dataset,
    images: Sequence[Mapping[str, Any]],
    path: Path,
    accelerator: Accelerator,
    count: int = 5,
) -> None:
    """
    Saves a sheet with the `count` best photos by PQ at the left and as many of the worst at the right.

    Each photo is shown with its predicted segments and with its true ones. The model runs again on these few.

    Args:
        model: on the accelerator's device.
        image_processor: a `YosoImageProcessor`.
        dataset: map-style, of `PanopticSample`.
        images: `images` of `evaluate_model`'s result.
        path: picture file.
        accelerator: gives device and precision; only its main process has to call this.
        count: photos of each kind, fewer if the dataset is small.
    """
    ranked = sorted((image for image in images if image["pq"] is not None), key=lambda image: -image["pq"])
    if not ranked:
        return
    count = min(count, len(ranked) // 2) or 1
    best, worst = ranked[:count], ranked[-count:][::-1]
    indices = sorted({image["index"] for image in [*best, *worst]})
    predictions = predict_dataset(model, image_processor, dataset, accelerator, indices=indices)
    tiles = {prediction.index: _photo_tiles(prediction, model.config.id2label) for prediction in predictions}
    rows = [
        [
            Tile(picture, f"{Path(image['file_name']).name}\nPQ {100 * image['pq']:.1f}, {what}")
            for image in pair
            for what, picture in tiles[image["index"]].items()
        ]
        for pair in zip(best, worst, strict=True)
    ]
    save_sheet(rows, path, f"Best {count} of {len(ranked)} photos (left) and worst {count} (right) by PQ of the photo")


def _photo_tiles(prediction: Prediction, id2label: Mapping[int, str]) -> dict[str, Image.Image]:
    panoptic = prediction.panoptic
    return {
        "predicted": draw_panoptic(
            sample_photo(prediction.sample), panoptic["segmentation"], panoptic["segments_info"], id2label
        ),
        "true": draw_truth(prediction.sample, id2label),
    }


def sample_photo(sample: PanopticSample) -> np.ndarray:
    """The photo as uint8 `(height, width, 3)`."""
    return sample.image.permute(1, 2, 0).numpy()


def draw_truth(sample: PanopticSample, id2label: Mapping[int, str]) -> Image.Image:
    """The photo with its true segments drawn over it."""
    segments = [{"id": k + 1, "label_id": label} for k, label in enumerate(sample.class_labels.tolist())]
    return draw_panoptic(sample_photo(sample), sample.segment_map + 1, segments, id2label)
