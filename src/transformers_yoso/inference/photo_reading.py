"""Reading one photo, with an error that names it."""

import io
import os
from pathlib import Path
from typing import Any

import torch
from PIL import Image, UnidentifiedImageError

from ..models.image_inputs import list_images, read_image
from .errors import ImageReadError, MissingFileError, one_line


def source_name(source: Any) -> str | None:
    """Path or URL of an image that came as one, else None."""
    return os.fspath(source) if isinstance(source, (str, os.PathLike)) else None


def is_photo(path: str | Path) -> bool:
    """Whether a path has the ending of a picture format that Pillow opens."""
    name = Image.registered_extensions().get(Path(path).suffix.lower())
    return name in Image.OPEN and Image.MIME.get(name, "").startswith("image/")


def read_photo(source: Any) -> torch.Tensor:
    """
    PIL image, array, tensor, encoded bytes, path or URL -> uint8 tensor (3, H, W), RGB, upright by its EXIF tag; see `read_image`.

    Raises:
        MissingFileError: a path without a file.
        ImageReadError: not an image, or a broken or empty one.
    """
    name = source_name(source)
    if name is not None and "://" not in name and not name.startswith("data:") and not Path(name).is_file():
        raise MissingFileError(f"There is no file {name}.")
    where = name or f"an image given as {type(source).__name__}"
    try:
        images = list_images(Image.open(io.BytesIO(source)) if isinstance(source, bytes) else source)
        if len(images) != 1:
            raise ValueError(f"one image was asked for, but these are {len(images)}")
        return read_image(images[0]).round().to(torch.uint8)
    except UnidentifiedImageError as error:
        raise ImageReadError(f"{where}: no image, or of a format that Pillow cannot read.") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ImageReadError(f"{where}: cannot be read as an image ({one_line(error)}).") from error
