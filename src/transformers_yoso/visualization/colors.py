"""Colours: one per class, with shades for its instances, in Oklab (B. Ottosson, 2020), which is even to the eye."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

Color = tuple[int, int, int]

GOLDEN_ANGLE = 137.50776
CONE_OF_LAB = np.array(
    [
        [1.0, 0.3963377774, 0.2158037573],
        [1.0, -0.1055613458, -0.0638541728],
        [1.0, -0.0894841775, -1.2914855480],
    ]
)
LINEAR_OF_CONE = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)


def segment_colors(
    segments_info: Sequence[Mapping[str, Any]], colors: Mapping[int, Color] | None = None
) -> list[Color]:
    """
    The colour of each segment: its class's, shaded by its "instance", or else by its rank among those of its class.

    Args:
        segments_info: one mapping per segment with "label_id" and maybe "instance", its number within the class.
        colors: sRGB colours (0-255) by label id, in place of `class_color`'s.
    """
    seen: dict[int, int] = {}
    result = []
    for info in segments_info:
        label_id = int(info["label_id"])
        seen[label_id] = seen.get(label_id, -1) + 1
        instance = info.get("instance")
        instance = seen[label_id] if instance is None else int(instance)
        base = None if colors is None else colors.get(label_id)
        result.append(class_color(label_id, instance) if base is None else shade_color(tuple(base), instance))
    return result


@lru_cache(maxsize=4096)
def class_color(label_id: int, instance: int = 0) -> Color:
    """sRGB colour (0-255) of the `instance`-th segment of a class; hues of classes are a golden angle apart."""
    hue = np.deg2rad(25.0 + label_id * GOLDEN_ANGLE)
    return _shade(0.68 + 0.05 * ((label_id // 2) % 3 - 1), 0.155, hue, instance)


@lru_cache(maxsize=4096)
def shade_color(color: Color, instance: int) -> Color:
    """The shade of a given sRGB colour (0-255) for the `instance`-th segment; the 0th is the colour itself."""
    if instance == 0:
        return color
    lightness, a, b = srgb_to_oklab(color)
    return _shade(lightness, float(np.hypot(a, b)), float(np.arctan2(b, a)), instance)


def coco_colors(categories: Sequence[Mapping[str, Any]]) -> dict[int, Color]:
    """The colours that COCO's category list gives, by category id; entries without "color" are left out."""
    return {int(entry["id"]): tuple(map(int, entry["color"])) for entry in categories if "color" in entry}


def named_colors(id2label: Mapping[int, str], label_colors: Mapping[str, Sequence[int]] | None) -> dict[int, Color]:
    """The colours of a configuration's `label_colors`, which go by name, by label id; labels without one are left out."""
    colors = label_colors or {}
    return {label: tuple(colors[name]) for label, name in id2label.items() if name in colors}


def _shade(lightness: float, chroma: float, hue: float, instance: int) -> Color:
    """Instances differ in lightness; in hue by 6 degrees at most, so that no shade looks like another class."""
    shade = van_der_corput(instance + 1) - 0.5
    hue = hue + np.deg2rad(12.0 * shade)
    return oklab_to_srgb(lightness + 0.22 * shade, chroma * np.cos(hue), chroma * np.sin(hue))


def van_der_corput(index: int) -> float:
    """Radical inverse in base 2: 1/2, 1/4, 3/4, 1/8, ... for index 1, 2, 3, 4, ..., evenly spread at any length."""
    value, step = 0.0, 0.5
    while index:
        value += step * (index & 1)
        index, step = index >> 1, step / 2
    return value


def oklab_to_srgb(lightness: float, a: float, b: float) -> Color:
    """Oklab to sRGB 0-255, clipped to the gamut."""
    linear = np.clip(LINEAR_OF_CONE @ (CONE_OF_LAB @ [lightness, a, b]) ** 3, 0.0, 1.0)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    red, green, blue = (round(255 * float(value)) for value in encoded)
    return red, green, blue


def srgb_to_oklab(color: Color) -> np.ndarray:
    """sRGB 0-255 to (lightness, a, b)."""
    encoded = np.asarray(color, dtype=np.float64) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    return np.linalg.solve(CONE_OF_LAB, np.cbrt(np.linalg.solve(LINEAR_OF_CONE, linear)))
