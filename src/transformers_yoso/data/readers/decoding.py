"""Photos and id maps from files, bytes or PIL images; every failure names where the picture came from."""

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ...models.image_inputs import read_image

T = TypeVar("T")

ImageSource = Path | str | bytes | dict[str, Any] | Image.Image
"""A file, encoded bytes, a PIL image, or the dict with `bytes` and `path` that an undecoded column of `datasets` holds."""

_DECODING_ERRORS = (OSError, ValueError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError)


def decode_photo(source: ImageSource, name: str) -> Tensor:
    """
    A photo, upright by its EXIF tag, uint8 `(3, height, width)`, not contiguous.

    Raises:
        FileNotFoundError: `source` is a file that does not exist.
        ValueError: it cannot be decoded; the message starts with `name`.
    """
    return _decode(source, name, _upright_rgb)


def decode_panoptic_png(source: ImageSource, name: str) -> np.ndarray:
    """A COCO panoptic PNG as segment ids, int32 `(height, width)`; raises as `decode_photo` does."""
    return _decode(source, name, _panoptic_ids)


def decode_channels(source: ImageSource, name: str) -> np.ndarray:
    """The raw channels of a map, integers `(height, width, channels)`, with no conversion of palette or colour."""

    def channels(image: Image.Image) -> np.ndarray:
        array = np.array(image)
        if not np.issubdtype(array.dtype, np.integer):
            raise ValueError(f"a map of ids must hold integers, not {array.dtype}")
        return array[..., None] if array.ndim == 2 else array

    return _decode(source, name, channels)


def _upright_rgb(image: Image.Image) -> Tensor:
    image = ImageOps.exif_transpose(image)
    if image.mode != "RGB":
        return read_image(image)
    # channels stay last in memory, where torchvision resizes twice as fast
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def _panoptic_ids(png: Image.Image) -> np.ndarray:
    """Segment ids R + 256 G + 65536 B: a pixel's four bytes read as one number, without the fourth."""
    pixels = png.convert("RGB").tobytes("raw", "RGBX")
    return np.frombuffer(pixels, dtype="<i4").reshape(png.height, png.width) & 0xFFFFFF


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
