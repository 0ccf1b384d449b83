"""A strip under the picture with the colour, name and share of each class."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from .colors import Color, segment_colors
from .lettering import load_font
from .segment_maps import segment_areas

BACKGROUND = (250, 250, 250)
INK = (40, 40, 40)
HEADING, HEADING_INK = "Area:", (120, 120, 120)
"""Labels in the picture show scores, which are per cent too."""


def add_legend(
    picture: Image.Image,
    rows: np.ndarray,
    segments_info: Sequence[Mapping[str, Any]],
    id2label: Mapping[int, str],
    colors: Mapping[int, Color] | None = None,
) -> Image.Image:
    """
    A new picture with the strip; classes are sorted by area, which is a share of all pixels. Without segments the
    picture is returned as it is.
    """
    entries = legend_entries(rows, segments_info, id2label, colors)
    if not entries:
        return picture
    font_size = max(11, round((picture.width * picture.height) ** 0.5 / 42))
    font = load_font(font_size)
    (heading_place, *places), height = flow([HEADING, *(text for text, _ in entries)], font_size, picture.width)
    result = Image.new("RGB", (picture.width, picture.height + height), BACKGROUND)
    result.paste(picture)
    draw = ImageDraw.Draw(result)
    x, y = heading_place
    draw.text((x, picture.height + y + font_size / 2), HEADING, font=font, fill=HEADING_INK, anchor="lm")
    for (text, color), (x, y) in zip(entries, places, strict=True):
        y += picture.height
        draw.rounded_rectangle((x, y, x + font_size, y + font_size), radius=0.25 * font_size, fill=color)
        draw.text((x + 1.4 * font_size, y + font_size / 2), text, font=font, fill=INK, anchor="lm")
    return result


def legend_entries(
    rows: np.ndarray,
    segments_info: Sequence[Mapping[str, Any]],
    id2label: Mapping[int, str],
    colors: Mapping[int, Color] | None,
) -> list[tuple[str, Color]]:
    """Text ("name 12%", "name <1%") and colour of each class, largest first."""
    areas: dict[int, int] = {}
    for info, area in zip(segments_info, segment_areas(rows, len(segments_info)).tolist(), strict=True):
        areas[int(info["label_id"])] = areas.get(int(info["label_id"]), 0) + area
    label_ids = sorted(areas, key=lambda label_id: -areas[label_id])
    class_colors = segment_colors([{"label_id": label_id} for label_id in label_ids], colors)
    return [
        (f"{id2label.get(label_id, label_id)} {per_cent(areas[label_id] / rows.size)}", color)
        for label_id, color in zip(label_ids, class_colors, strict=True)
    ]


def per_cent(share: float) -> str:
    """Whole per cent; what rounds to nothing is "<1%"."""
    return "<1%" if share < 0.005 else f"{100 * share:.0f}%"


def flow(texts: Sequence[str], font_size: int, width: int) -> tuple[list[tuple[float, float]], int]:
    """Upper left corner of each entry, laid out line by line in a strip of `width` pixels, and the strip's height."""
    margin, line = 0.8 * font_size, 1.7 * font_size
    x, y, places = margin, margin, []
    for text in texts:
        entry = 1.4 * font_size + load_font(font_size).getlength(text)
        if x > margin and x + entry + margin > width:
            x, y = margin, y + line
        places.append((x, y))
        x += entry + 1.5 * font_size
    return places, round(y + font_size + margin)
