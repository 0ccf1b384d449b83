"""Texts on pictures: the font, sizes of label chips, and drawing them."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from .colors import Color

WHITE = (255, 255, 255, 255)
BLACK = (0, 0, 0)


class Label(NamedTuple):
    """A text and where it goes: centre and font size, in pixels of the picture."""

    text: str
    center: tuple[float, float]
    font_size: int
    color: Color


Box = tuple[float, float, float, float]
"""Left, top, right, bottom, in pixels."""


@lru_cache(maxsize=64)
def load_font(font_size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font that Pillow ships, at a size in pixels."""
    return ImageFont.load_default(size=font_size)


@lru_cache(maxsize=4096)
def chip_size(text: str, font_size: int) -> tuple[float, float]:
    """Width and height in pixels of a label with its margin."""
    return load_font(font_size).getlength(text) + 0.7 * font_size, 1.45 * font_size


def chip_box(label: Label) -> Box:
    """The box of a label with its margin."""
    (x, y), (width, height) = label.center, chip_size(label.text, label.font_size)
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def overlap(a: Box, b: Box) -> bool:
    """Whether two boxes have a common inner point."""
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def draw_label_chips(picture: Image.Image, labels: Sequence[Label]) -> None:
    """Writes labels in white on a dark, see-through chip of the segment's hue, in place."""
    draw = ImageDraw.Draw(picture, "RGBA")
    for label in labels:
        red, green, blue = (int(0.28 * channel) for channel in label.color)
        draw.rounded_rectangle(chip_box(label), radius=0.4 * label.font_size, fill=(red, green, blue, 205))
        draw.text(label.center, label.text, font=load_font(label.font_size), fill=WHITE, anchor="mm")


def corner_badge(text: str, picture_size: tuple[int, int]) -> Label:
    """A label in the upper left corner of a picture of this width and height."""
    font_size = max(11, round((picture_size[0] * picture_size[1]) ** 0.5 / 36))
    width, height = chip_size(text, font_size)
    return Label(text, (0.4 * font_size + width / 2, 0.4 * font_size + height / 2), font_size, BLACK)
