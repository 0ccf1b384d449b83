"""Panoptic overlay: colour fills, crisp borders, labels, legend."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..models.image_inputs import read_image
from .colors import Color, segment_colors
from .label_placement import label_texts, place_labels
from .legend import add_legend
from .lettering import chip_box, corner_badge, draw_label_chips
from .segment_maps import outline_mask, segment_rows

OUTLINE_ALPHA = 235
OUTLINE_WHITENESS = 0.65
PIXELS_PER_OUTLINE_PIXEL = 900


def draw_panoptic(
    image: Image.Image | np.ndarray,
    segmentation: torch.Tensor | np.ndarray,
    segments_info: Sequence[Mapping[str, Any]],
    id2label: Mapping[int, str],
    *,
    alpha: float = 0.5,
    draw_labels: bool = True,
    legend: bool = False,
    badge: str | None = None,
    colors: Mapping[int, Color] | None = None,
) -> Image.Image:
    """
    Draws a panoptic result, or ground truth, over its photo.

    Args:
        image: PIL image, or uint8 array (H, W, 3) in 0-255.
        segmentation: integer ids, (H, W), as `post_process_panoptic_segmentation` gives them. Ids that are not in
            `segments_info` (void) are left as they are in the photo.
        segments_info: one mapping per segment with "id" and "label_id"; a "score" in [0, 1] is shown as per cent; an
            "instance" (number within the class) fixes the shade, which else goes by rank.
        id2label: names by label id; a label without a name is shown as its number.
        alpha: opacity of the fill, in [0, 1].
        draw_labels: whether to write names into the segments. A segment too small for its name gets none.
        legend: whether to add a strip with the colour and the name of each class under the photo.
        badge: a short text for the upper left corner, which labels then leave free.
        colors: sRGB colours (0-255) by label id, for example `coco_colors(categories)`; a label that is not among
            them, or all without `colors`, get `class_color`, which depends on the label id only.

    Returns:
        A new RGB picture of the photo's size; with `legend` higher by the strip.

    Raises:
        ValueError: if map and photo differ in size, the photo is no uint8 RGB array, the map is not of integers, or
            an id or alpha is out of range.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must lie in [0, 1], got {alpha}.")
    photo = to_photo(image)
    ids = segmentation.detach().cpu().numpy() if isinstance(segmentation, torch.Tensor) else np.asarray(segmentation)
    if ids.shape != (photo.height, photo.width):
        raise ValueError(
            f"The segmentation has shape {ids.shape} but the image is {photo.height} high and {photo.width} wide; "
            "pass target_sizes=[(height, width)] to the post-processing."
        )
    rows = segment_rows(ids, [int(info["id"]) for info in segments_info])
    shades = segment_colors(segments_info, colors)
    picture = paint_segments(photo, rows, shades, alpha)
    labels = [] if badge is None else [corner_badge(badge, photo.size)]
    if draw_labels:
        label_ids = [int(info["label_id"]) for info in segments_info]
        texts = [label_texts(info, id2label) for info in segments_info]
        labels += place_labels(rows, label_ids, texts, shades, taken=[chip_box(label) for label in labels])
    draw_label_chips(picture, labels)
    return add_legend(picture, rows, segments_info, id2label, colors) if legend else picture


def to_photo(image: Image.Image | np.ndarray) -> Image.Image:
    """An RGB PIL image of a PIL image or a uint8 array (H, W, 3)."""
    if isinstance(image, Image.Image):
        return image if image.mode == "RGB" and not image.getexif() else upright_photo(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"The image array must be uint8 of shape (H, W, 3), got {image.dtype} {image.shape}.")
    return Image.fromarray(image)


def upright_photo(image: Any) -> Image.Image:
    """Any image that `read_image` takes -> RGB PIL image, upright, 8 bits a channel."""
    return Image.fromarray(read_image(image).round().byte().permute(1, 2, 0).numpy(force=True))


def paint_segments(photo: Image.Image, rows: np.ndarray, colors: Sequence[Color], alpha: float) -> Image.Image:
    """Fills every segment with its colour at `alpha` and draws its border inside of it, nearly opaque."""
    count = len(colors)
    palette = np.zeros((2 * count + 1, 4), dtype=np.uint8)
    fill = np.asarray(colors, dtype=np.float64).reshape(count, 3)
    palette[1 : count + 1, :3] = fill
    palette[1 : count + 1, 3] = round(255 * alpha)
    palette[count + 1 :, :3] = fill + OUTLINE_WHITENESS * (255 - fill)
    palette[count + 1 :, 3] = OUTLINE_ALPHA
    outline = outline_mask(rows, width=max(1, round((photo.width * photo.height) ** 0.5 / PIXELS_PER_OUTLINE_PIXEL)))
    codes = rows + count * (outline & (rows > 0)).astype(rows.dtype)
    overlay = Image.fromarray(
        palette.view(np.uint32).take(codes, mode="clip").view(np.uint8).reshape(*rows.shape, 4), "RGBA"
    )
    picture = photo.copy()
    picture.paste(overlay.convert("RGB"), mask=overlay.getchannel("A"))
    return picture
