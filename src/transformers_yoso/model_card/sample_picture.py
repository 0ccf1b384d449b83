"""A photo segmented by the checkpoint, drawn over the photo."""

import os
from pathlib import Path

import torch
from PIL import Image

from ..models.image_processing_yoso import YosoImageProcessor
from ..models.modeling_yoso import YosoForUniversalSegmentation
from ..visualization import draw_panoptic, named_colors, to_photo

LONGEST_SIDE = 1024  # pixels of the saved picture


@torch.no_grad()
def save_sample_picture(
    model: YosoForUniversalSegmentation,
    image_processor: YosoImageProcessor,
    photo_file: str | os.PathLike,
    picture_file: Path,
) -> int:
    """
    Writes the overlay as a JPEG and returns the number of segments found.

    Raises:
        FileNotFoundError, ValueError: the photo is missing or cannot be decoded.
    """
    if not Path(photo_file).is_file():
        raise FileNotFoundError(f"{photo_file}: no such photo for the model card.")
    try:
        with Image.open(photo_file) as image:
            photo = to_photo(image).copy()  # a lazily read file is closed below
    except OSError as error:
        raise ValueError(f"{photo_file}: the photo cannot be decoded ({error}).") from error
    photo.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    outputs = model.eval()(**image_processor(images=photo, return_tensors="pt"))
    (result,) = image_processor.post_process_panoptic_segmentation(outputs, target_sizes=[(photo.height, photo.width)])
    colors = named_colors(model.config.id2label, model.config.label_colors)
    picture = draw_panoptic(
        photo, result["segmentation"], result["segments_info"], model.config.id2label, colors=colors
    )
    picture.save(picture_file, quality=88)
    return len(result["segments_info"])
