"""A sheet of the photos with the best and the worst panoptic quality."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from PIL import Image
from torch.utils.data import Dataset

from ..data.drawing import draw_sample
from ..picture_sheet import Tile, save_sheet
from .drawing import draw_prediction
from .prediction import Prediction, predict_dataset


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
    return {
        "predicted": draw_prediction(prediction, id2label),
        "true": draw_sample(prediction.sample, id2label),
    }
