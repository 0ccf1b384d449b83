"""Panoptic overlay: a colour per class with shades per instance, outlines, and labels inside their own segments."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from .models.image_inputs import read_image

Color = tuple[int, int, int]

GOLDEN_ANGLE = 137.50776
MAX_SEGMENT_ID = 2**24 - 1  # what a COCO panoptic PNG can hold
PLACEMENT_GRID = 640  # cells along the longer side of the grid on which labels are placed
FONT_SCALES = (1.0, 0.85, 0.7)
MIN_FONT_SIZE = 9


class Label(NamedTuple):
    """A text and where it goes: centre and font size, in pixels of the picture."""

    text: str
    center: tuple[float, float]
    font_size: int
    color: Color


def draw_panoptic(
    image: Image.Image | np.ndarray,
    segmentation: torch.Tensor | np.ndarray,
    segments_info: Sequence[Mapping[str, Any]],
    id2label: Mapping[int, str],
    *,
    alpha: float = 0.5,
    draw_labels: bool = True,
) -> Image.Image:
    """
    Draws a panoptic result over its photo.

    Args:
        image: PIL image, or uint8 array (H, W, 3) in 0-255.
        segmentation: integer ids, (H, W), as `post_process_panoptic_segmentation` gives them. Ids that are not in
            `segments_info` (void) are left as they are in the photo.
        segments_info: one mapping per segment with "id" and "label_id"; a "score" in [0, 1] is shown as per cent.
        id2label: names by label id; a label without a name is shown as its number.
        alpha: opacity of the fill, in [0, 1].
        draw_labels: whether to write names into the segments. A segment too small for its name gets none.

    Returns:
        A new RGB picture of the photo's size. The colour of a class depends on its id only.

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
    label_ids = [int(info["label_id"]) for info in segments_info]
    colors = segment_colors(label_ids)
    picture = paint_segments(photo, rows, colors, alpha)
    if draw_labels:
        texts = [label_texts(info, id2label) for info in segments_info]
        draw_label_chips(picture, place_labels(rows, label_ids, texts, colors))
    return picture


def to_photo(image: Image.Image | np.ndarray) -> Image.Image:
    """An RGB PIL image of a PIL image or a uint8 array (H, W, 3)."""
    if isinstance(image, Image.Image):
        return Image.fromarray(read_image(image).permute(1, 2, 0).numpy())
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"The image array must be uint8 of shape (H, W, 3), got {image.dtype} {image.shape}.")
    return Image.fromarray(image)


def segment_rows(ids: np.ndarray, segment_ids: Sequence[int]) -> np.ndarray:
    """Map (H, W) with k + 1 where `ids` equals `segment_ids[k]`, and 0 for void."""
    if not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(f"The segmentation must hold integer ids, not {ids.dtype}.")
    if any(not 0 <= segment_id <= MAX_SEGMENT_ID for segment_id in segment_ids):
        raise ValueError(f"Segment ids must lie in 0..{MAX_SEGMENT_ID}, got {sorted(segment_ids)}.")
    if not segment_ids:
        return np.zeros(ids.shape, dtype=np.uint16)
    void = max(segment_ids) + 1
    table = np.zeros(void + 1, dtype=np.uint16)
    table[list(segment_ids)] = np.arange(1, len(segment_ids) + 1)
    return table[np.where((ids < 0) | (ids > void), void, ids)]


def segment_colors(label_ids: Sequence[int]) -> list[Color]:
    """The colour of each segment: its class's, shaded by its rank among the segments of that class."""
    seen: dict[int, int] = {}
    colors = []
    for label_id in label_ids:
        seen[label_id] = seen.get(label_id, -1) + 1
        colors.append(class_color(label_id, seen[label_id]))
    return colors


def class_color(label_id: int, instance: int = 0) -> Color:
    """sRGB colour (0-255) of the `instance`-th segment of a class; hues of classes are a golden angle apart."""
    shade = van_der_corput(instance + 1) - 0.5
    hue = np.deg2rad(25.0 + label_id * GOLDEN_ANGLE + 36.0 * shade)
    lightness = 0.68 + 0.05 * ((label_id // 2) % 3 - 1) + 0.22 * shade
    return oklch_to_srgb(lightness, 0.155, hue)


def van_der_corput(index: int) -> float:
    """Radical inverse in base 2: 1/2, 1/4, 3/4, 1/8, ... for index 1, 2, 3, 4, ..., evenly spread at any length."""
    value, step = 0.0, 0.5
    while index:
        value += step * (index & 1)
        index, step = index >> 1, step / 2
    return value


def oklch_to_srgb(lightness: float, chroma: float, hue: float) -> Color:
    """Oklab in polar form (hue in radians) to sRGB 0-255, clipped to the gamut."""
    a, b = chroma * np.cos(hue), chroma * np.sin(hue)
    cone = np.array(
        [
            lightness + 0.3963377774 * a + 0.2158037573 * b,
            lightness - 0.1055613458 * a - 0.0638541728 * b,
            lightness - 0.0894841775 * a - 1.2914855480 * b,
        ]
    )
    to_linear = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = np.clip(to_linear @ cone**3, 0.0, 1.0)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    red, green, blue = (round(255 * float(value)) for value in encoded)
    return red, green, blue


def paint_segments(photo: Image.Image, rows: np.ndarray, colors: Sequence[Color], alpha: float) -> Image.Image:
    """Fills every segment with its colour at `alpha` and draws its border inside of it, nearly opaque."""
    count = len(colors)
    palette = np.zeros((2 * count + 1, 4), dtype=np.uint8)
    fill = np.asarray(colors, dtype=np.float64).reshape(count, 3)
    palette[1 : count + 1, :3] = fill
    palette[1 : count + 1, 3] = round(255 * alpha)
    palette[count + 1 :, :3] = 255 - 0.35 * (255 - fill)
    palette[count + 1 :, 3] = 235
    outline = outline_mask(rows, width=max(1, round((photo.width * photo.height) ** 0.5 / 900)))
    overlay = Image.fromarray(palette[rows + count * (outline & (rows > 0)).astype(rows.dtype)], "RGBA")
    picture = photo.copy()
    picture.paste(overlay.convert("RGB"), mask=overlay.getchannel("A"))
    return picture


def outline_mask(rows: np.ndarray, width: int) -> np.ndarray:
    """Pixels at most `width` (city-block) from a pixel of another segment, (H, W) bool."""
    edge = np.zeros(rows.shape, dtype=bool)
    vertical, horizontal = rows[1:] != rows[:-1], rows[:, 1:] != rows[:, :-1]
    edge[1:] |= vertical
    edge[:-1] |= vertical
    edge[:, 1:] |= horizontal
    edge[:, :-1] |= horizontal
    for _ in range(width - 1):
        grown = edge.copy()
        grown[1:] |= edge[:-1]
        grown[:-1] |= edge[1:]
        grown[:, 1:] |= edge[:, :-1]
        grown[:, :-1] |= edge[:, 1:]
        edge = grown
    return edge


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


@lru_cache(maxsize=64)
def load_font(font_size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font that Pillow ships, at a size in pixels."""
    return ImageFont.load_default(size=font_size)


@lru_cache(maxsize=4096)
def chip_size(text: str, font_size: int) -> tuple[float, float]:
    """Width and height in pixels of a label with its margin."""
    font = load_font(font_size)
    return font.getlength(text) + 0.7 * font_size, 1.45 * font_size


def chip_box(label: Label) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of a label in pixels."""
    (x, y), (width, height) = label.center, chip_size(label.text, label.font_size)
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    """Whether two boxes (left, top, right, bottom) have a common inner point."""
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def draw_label_chips(picture: Image.Image, labels: Sequence[Label]) -> None:
    """Writes labels in white on a dark, see-through chip of the segment's hue, in place."""
    draw = ImageDraw.Draw(picture, "RGBA")
    for label in labels:
        red, green, blue = (int(0.28 * channel) for channel in label.color)
        draw.rounded_rectangle(chip_box(label), radius=0.4 * label.font_size, fill=(red, green, blue, 205))
        draw.text(label.center, label.text, font=load_font(label.font_size), fill=(255, 255, 255, 255), anchor="mm")
