"""Reading what users hand in: PIL images, arrays, tensors or paths, as images or as segmentation maps."""

import os
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from transformers.image_utils import ChannelDimension, load_image
from transformers.utils import logging

logger = logging.get_logger(__name__)

IMAGE_CHANNELS = (1, 3, 4)
"""Grey, RGB, RGBA."""


def list_images(images: Any) -> list[Any]:
    """Flatten one image, a batch (B, ., ., .), or a (nested) list of them. Paths and URLs are opened.

    Raises:
        ValueError: no image at all, or something that is not one.
    """
    if isinstance(images, (list, tuple)):
        if not images:
            raise ValueError("The list of images is empty: hand in at least one image.")
        return [image for item in images for image in list_images(item)]
    if isinstance(images, os.PathLike):
        images = os.fspath(images)
    if isinstance(images, str):
        return [Image.open(images) if os.path.isfile(images) else load_image(images)]
    if isinstance(images, Image.Image):
        return [images]
    if isinstance(images, (np.ndarray, Tensor)):
        if images.ndim == 4 and len(images) == 0:
            raise ValueError("The batch of images is empty: hand in at least one image.")
        return list(images) if images.ndim == 4 else [images]
    raise ValueError(f"An image must be a PIL image, array, tensor, path or URL, not a {type(images).__name__}.")


def read_image(
    image: Any,
    do_convert_rgb: bool = True,
    input_data_format: str | ChannelDimension | None = None,
    do_rescale: bool = True,
) -> Tensor:
    """One image -> tensor (channels, height, width), uint8 in 0-255, or float32 where the input is floating.

    PIL images are turned upright by their EXIF tag. 16-bit values (modes I;16*, uint16, and other integers above 255)
    are divided by 256. Floating values are taken as 0-255 if `do_rescale`, and as they are if not; floating images
    that lie in [0, 1] although `do_rescale` is set are multiplied by 255, with a warning. With `do_convert_rgb` the
    result has three channels: grey is repeated and alpha dropped, as PIL's `convert("RGB")` does.

    Raises:
        ValueError: no pixels, a channel count other than 1, 3 or 4, NaN or infinite values, integers out of range.
    """
    pixels = _read_pil(image, do_convert_rgb) if isinstance(image, Image.Image) else _as_tensor(image)
    if pixels.ndim not in (2, 3):
        raise ValueError(f"an image has 2 or 3 dimensions, not the shape {tuple(pixels.shape)}.")
    if pixels.numel() == 0:
        raise ValueError(f"the image has no pixels (shape {tuple(pixels.shape)}).")
    if pixels.ndim == 2:
        pixels = pixels[None]
    else:
        is_pil = isinstance(image, Image.Image)
        pixels = _channels_first(pixels, ChannelDimension.LAST if is_pil else input_data_format)
    if do_convert_rgb and pixels.shape[0] not in IMAGE_CHANNELS:
        raise ValueError(f"the image has {pixels.shape[0]} channels, but 1 (grey), 3 (RGB) or 4 (RGBA) are needed.")
    pixels = _to_byte_range(pixels, do_rescale)
    if do_convert_rgb:
        pixels = pixels[:3].expand(3, -1, -1)
    # Photos stay as PIL and files have them, pixel by pixel: torchvision resizes this layout twice as fast.
    return pixels if is_interleaved(pixels) else pixels.contiguous()


def is_interleaved(pixels: Tensor) -> bool:
    """Whether an image (channels, height, width) lies in memory as (height, width, channels)."""
    return pixels.permute(1, 2, 0).is_contiguous()


def _as_tensor(array: np.ndarray | Tensor) -> Tensor:
    if isinstance(array, Tensor):
        return array
    # torch knows neither foreign byte order nor negative strides, and warns of read-only arrays, such as PIL's
    return torch.from_numpy(np.require(array, array.dtype.newbyteorder("="), ["C", "W"]))


def _read_pil(image: Image.Image, do_convert_rgb: bool) -> Tensor:
    if 0 in image.size:
        raise ValueError(f"the image has no pixels (width and height {image.size}).")
    image = ImageOps.exif_transpose(image)
    if do_convert_rgb and image.mode != "RGB" and image.mode[0] not in "IF":
        if "transparency" in image.info:
            image = image.convert("RGBA")
        image = image.convert("RGB")
    return _as_tensor(np.array(image))


def _channels_first(pixels: Tensor, data_format: str | ChannelDimension | None) -> Tensor:
    if data_format is None:
        if pixels.shape[0] in IMAGE_CHANNELS:
            data_format = ChannelDimension.FIRST
        elif pixels.shape[-1] in IMAGE_CHANNELS:
            data_format = ChannelDimension.LAST
        else:
            raise ValueError(
                f"neither the first nor the last dimension of the shape {tuple(pixels.shape)} can be channels: "
                "1 (grey), 3 (RGB) or 4 (RGBA) are needed."
            )
    return pixels if data_format == ChannelDimension.FIRST else pixels.permute(2, 0, 1)


def _to_byte_range(pixels: Tensor, do_rescale: bool) -> Tensor:
    if pixels.dtype == torch.uint8:
        return pixels
    if pixels.dtype == torch.bool:
        return pixels.to(torch.uint8) * 255
    if pixels.is_floating_point():
        pixels = pixels.float()
        if not pixels.isfinite().all():
            raise ValueError("the image holds NaN or infinite values.")
        if do_rescale and pixels.min() >= 0 and pixels.max() <= 1:
            logger.warning_once(
                "An image holds floating values in [0, 1] although `do_rescale` is set: they are taken as already "
                "rescaled. Pass `do_rescale=False` if all images are."
            )
            pixels = pixels * 255
        return pixels
    wide = pixels.to(torch.int64)
    low, high = wide.min().item(), wide.max().item()
    if low < 0 or high > 65535:
        raise ValueError(f"the image holds integers from {low} to {high}, but 0-255 or 0-65535 are needed.")
    if pixels.dtype == torch.uint16 or high > 255:
        wide = wide // 256
    return wide.to(torch.uint8)


def list_segmentation_maps(segmentation_maps: Any, num_images: int) -> list[Any]:
    """One map, a batch of maps, or a list of maps -> a list with one map per image.

    An array (., ., 3) given for a single image is one RGB map; any other array with three dimensions is a batch.

    Raises:
        ValueError: another number of maps than images.
    """
    if isinstance(segmentation_maps, Image.Image):
        segmentation_maps = [segmentation_maps]
    elif isinstance(segmentation_maps, (np.ndarray, Tensor)):
        is_rgb = segmentation_maps.ndim == 3 and num_images == 1 and segmentation_maps.shape[-1] == 3
        is_single = segmentation_maps.ndim == 2 or is_rgb
        segmentation_maps = [segmentation_maps] if is_single else list(segmentation_maps)
    if len(segmentation_maps) != num_images:
        raise ValueError(
            f"Got {num_images} images but {len(segmentation_maps)} segmentation maps: hand in one map per image."
        )
    return list(segmentation_maps)


def read_segmentation_map(segmentation_map: Any) -> tuple[Tensor, bool]:
    """One segmentation map -> int64 ids (height, width), and whether it was a COCO panoptic RGB map.

    Maps are (H, W), (1, H, W) or a single-band PIL image of ids, or RGB, (H, W, 3) or (3, H, W), with
    id = R + 256 * G + 65536 * B.

    Raises:
        ValueError: another shape, or ids that are not whole numbers.
    """
    if isinstance(segmentation_map, Image.Image):
        segmentation_map = np.array(segmentation_map)
    if not isinstance(segmentation_map, (np.ndarray, Tensor)):
        raise ValueError(
            f"a segmentation map must be a PIL image, array or tensor, not a {type(segmentation_map).__name__}."
        )
    values = _as_tensor(segmentation_map)
    ids = values.to(torch.int64)
    if values.is_floating_point() and not torch.equal(ids.to(values.dtype), values):
        raise ValueError("the segmentation map holds values that are not whole numbers.")
    if ids.ndim == 2:
        return ids, False
    if ids.ndim == 3 and ids.shape[0] == 1:
        return ids[0], False
    if ids.ndim == 3 and 3 in (ids.shape[0], ids.shape[-1]):
        red, green, blue = ids.unbind(-1 if ids.shape[-1] == 3 else 0)
        return red + 256 * green + 65536 * blue, True
    raise ValueError(
        f"a segmentation map has the shape (height, width) or, as COCO RGB, (height, width, 3), not {tuple(ids.shape)}."
    )
