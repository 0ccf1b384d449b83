"""Photos and id maps from files, bytes or PIL images; every failure names where the picture came from."""

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image
from torch import Tensor

from ...models.image_inputs import read_image

T = TypeVar("T")

ImageSource = Path | str | bytes | dict[str, Any] | Image.Image
"""A file, encoded bytes, a PIL image, or the dict with `bytes` and `path` that an undecoded column of `datasets` holds."""

_DECODING_ERRORS = (OSError, ValueError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError)


def decode_photo(source: ImageSource, name: str) -> Tensor:
    """
    A photo, upright by its EXIF tag, uint8 `(3, height, width)`.

    Raises:
        FileNotFoundError: `source` is a file that does not exist.
        ValueError: it cannot be decoded; the message starts with `name`.
    """
    return _decode(source, name, read_image)


def decode_panoptic_png(source: ImageSource, name: str) -> np.ndarray:
    """A COCO panoptic PNG as segment ids, int32 `(height, width)`; raises as `decode_photo` does."""
    return _decode(source, name, lambda png: rgb_to_id(np.array(png.convert("RGB"))))


def decode_channels(source: ImageSource, name: str) -> np.ndarray:
    """The raw channels of a map, integers `(height, width, channels)`, with no conversion of palette or colour."""

    def channels(image: Image.Image) -> np.ndarray:
        array = np.array(image)
        if not np.issubdtype(array.dtype, np.integer):
            raise ValueError(f"a map of ids must hold integers, not {array.dtype}")
        return array[..., None] if array.ndim == 2 else array

    return _decode(source, name, channels)


def rgb_to_id(rgb: np.ndarray) -> np.ndarray:
    """COCO panoptic colour `(height, width, 3)` uint8 to segment id `R + 256 G + 65536 B`, int32 `(height, width)`."""
    channels = rgb.astype(np.int32)
    return channels[..., 0] + 256 * channels[..., 1] + 65536 * channels[..., 2]


def _decode(source: ImageSource, name: str, convert: Callable[[Image.Image], T]) -> T:
    if isinstance(source, dict):
        source = source["bytes"] if source.get("bytes") is not None else source.get("path")
    if source is None:
        raise ValueError(f"{name}: there is no picture (the cell is empty).")
    try:
        if isinstance(source, Image.Image):
            return convert(source)
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            return convert(image)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{name}: no such file.") from error
    except _DECODING_ERRORS as error:
        raise ValueError(f"{name}: cannot be decoded ({error}).") from error
