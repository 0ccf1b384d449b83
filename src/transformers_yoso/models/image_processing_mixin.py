"""What both YOSO image processors do alike before the network: read, resize, normalise, pad, make training targets."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import pad
from transformers.image_processing_utils import BatchFeature
from transformers.image_utils import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    ImageInput,
    PILImageResampling,
    SizeDict,
)
from transformers.processing_utils import ImagesKwargs, Unpack
from transformers.utils import TensorType

from .canvas import SIZE_DIVISOR
from .image_inputs import list_images, list_segmentation_maps, read_segmentation_map
from .image_resizing import get_padded_size, get_resized_image_size, resize_id_map
from .post_processing_mixin import check_fraction
from .remote_code import IMAGE_PROCESSOR_AUTO_MAP, save_remote_code
from .segmentation_targets import VOID, binary_masks, compact_id_map


class YosoImageProcessorKwargs(ImagesKwargs, total=False):
    r"""
    size_divisor (`int`, *optional*, defaults to 32):
        Batches are padded to a multiple of this, in pixels.
    ignore_index (`int`, *optional*):
        Id of the pixels in a segmentation map that belong to no segment (void).
    do_reduce_labels (`bool`, *optional*, defaults to `False`):
        Whether id 0 of a segmentation map is void and every class is one lower than its id (as in ADE20K's files).
    return_compact_masks (`bool`, *optional*, defaults to `False`):
        Whether `mask_labels` are int32 maps `(height, width)` whose value k is segment k of `class_labels` and -1 is
        void or padding, instead of bool masks `(num_segments, height, width)`.
    threshold (`float`, *optional*, defaults to 0.7):
        Panoptic: queries whose class probability is not above this are dropped.
    mask_threshold (`float`, *optional*, defaults to 0.5):
        A pixel is inside a mask if its mask probability reaches this.
    overlap_mask_area_threshold (`float`, *optional*, defaults to 0.8):
        Panoptic: a query must win this part of its own mask's area, or it is dropped.
    label_ids_to_fuse (`list[int]`, *optional*, defaults to none):
        Panoptic: labels whose segments are merged into one, the stuff classes.
    """

    size_divisor: int
    ignore_index: int | None
    do_reduce_labels: bool
    return_compact_masks: bool
    threshold: float | int
    mask_threshold: float | int
    overlap_mask_area_threshold: float | int
    label_ids_to_fuse: list[int] | set[int] | tuple[int, ...]


class YosoImageProcessingMixin:
    """Preprocessing of `YosoImageProcessor` and `YosoImageProcessorPil`; the backend resizes and normalises."""

    valid_kwargs = YosoImageProcessorKwargs
    model_input_names = ["pixel_values", "pixel_mask"]  # noqa: RUF012
    resample = PILImageResampling.BILINEAR
    image_mean = IMAGENET_DEFAULT_MEAN
    image_std = IMAGENET_DEFAULT_STD
    size = {"shortest_edge": 800, "longest_edge": 1333}  # noqa: RUF012
    default_to_square = False
    do_convert_rgb = True
    do_resize = True
    do_rescale = True
    rescale_factor = 1 / 255
    do_normalize = True
    do_pad = True
    size_divisor = SIZE_DIVISOR
    ignore_index = None
    do_reduce_labels = False
    return_compact_masks = False
    threshold = 0.7
    mask_threshold = 0.5
    overlap_mask_area_threshold = 0.8
    label_ids_to_fuse = ()

    def preprocess(
        self,
        images: ImageInput,
        segmentation_maps: ImageInput | None = None,
        instance_id_to_semantic_id: list[dict[int, int]] | dict[int, int] | None = None,
        **kwargs: Unpack[YosoImageProcessorKwargs],
    ) -> BatchFeature:
        """Prepare images, and where given their segmentation maps, for the model.

        Images may be PIL images of any mode and EXIF orientation, arrays or tensors `(H, W)`, `(H, W, C)` or
        `(C, H, W)`, batches, paths or URLs; see `read_image` for value ranges. They are resized (antialiased, on
        0-255 values), normalised and padded with zeros right and bottom to a multiple of `size_divisor`, or to
        `pad_size`.

        Args:
            images: One or more images.
            segmentation_maps: One map per image, of its size: ids `(H, W)`, or COCO panoptic RGB `(H, W, 3)` with
                id = R + 256 G + 65536 B, where id 0 is void. They are resized to the nearest id.
            instance_id_to_semantic_id: Class of each id, for all images or one dict per image. A class of -1 makes
                the id void, and so does leaving out id 0. Without it, ids are classes.

        Returns:
            `pixel_values` float32 (B, 3, H, W); `pixel_mask` int64 (B, H, W), 1 = image, 0 = padding; with
            segmentation maps also `mask_labels`, per image bool (num_segments, H, W) or a compact id map int32 (H, W)
            (see `return_compact_masks`), and `class_labels`, per image int64 (num_segments,). Void and padding belong
            to no mask.

        Raises:
            ValueError: bad input, naming the image by its index and the mend.
        """
        return super().preprocess(images, segmentation_maps, instance_id_to_semantic_id, **kwargs)

    def to_dict(self) -> dict[str, Any]:
        """As in Transformers, with the map that `trust_remote_code` needs."""
        return super().to_dict() | {"auto_map": dict(IMAGE_PROCESSOR_AUTO_MAP)}

    def to_json_file(self, json_file_path: str | os.PathLike) -> None:
        """As in Transformers; the folder also gets the code for `trust_remote_code=True`, before any upload."""
        super().to_json_file(json_file_path)
        save_remote_code(Path(json_file_path).parent)

    def _standardize_kwargs(self, label_ids_to_fuse: Any = None, **kwargs: Any) -> dict[str, Any]:
        kwargs = super()._standardize_kwargs(**kwargs)
        size = kwargs["size"]
        if size is not None and set(dict(size)) not in (
            {"shortest_edge", "longest_edge"},
            {"shortest_edge"},
            {"height", "width"},
        ):
            raise ValueError(
                "`size` must have the keys 'shortest_edge' and (optionally) 'longest_edge', or 'height' and 'width', "
                f"but has {sorted(dict(size))}."
            )
        for name in ("threshold", "mask_threshold", "overlap_mask_area_threshold"):
            if kwargs.get(name) is not None:
                check_fraction(name, kwargs[name])
        if kwargs.get("size_divisor") is not None and kwargs["size_divisor"] < 1:
            raise ValueError(f"`size_divisor` must be at least 1, but is {kwargs['size_divisor']}.")
        kwargs["label_ids_to_fuse"] = sorted(label_ids_to_fuse or ())
        return kwargs

    def _preprocess_image_like_inputs(
        self,
        images: ImageInput,
        segmentation_maps: ImageInput | None,
        instance_id_to_semantic_id: list[dict[int, int]] | dict[int, int] | None,
        **kwargs: Any,
    ) -> BatchFeature:
        images = list_images(images)
        if segmentation_maps is not None:
            segmentation_maps = list_segmentation_maps(segmentation_maps, len(images))
        if not isinstance(instance_id_to_semantic_id, (list, tuple)):
            instance_id_to_semantic_id = [instance_id_to_semantic_id] * len(images)
        if len(instance_id_to_semantic_id) != len(images):
            raise ValueError(
                f"Got {len(images)} images but {len(instance_id_to_semantic_id)} dicts in "
                "`instance_id_to_semantic_id`: hand in one dict per image, or one for all."
            )
        images = for_each_image(self._read_checked, images, **kwargs)
        features = self._preprocess(images, **kwargs)
        if segmentation_maps is not None:
            items = zip(images, features["pixel_mask"], segmentation_maps, instance_id_to_semantic_id, strict=True)
            targets = for_each_image(lambda item: self._make_targets(*item, **kwargs), list(items))
            features["mask_labels"], features["class_labels"] = map(list, zip(*targets, strict=True))
        return features

    def _read_checked(self, image: Any, do_normalize: bool | None, image_mean: Any, **kwargs: Any) -> Any:
        image = self.process_image(image, **kwargs)
        if do_normalize and isinstance(image_mean, (list, tuple)) and image.shape[0] not in (1, len(image_mean)):
            raise ValueError(
                f"the image has {image.shape[0]} channels, but `image_mean` has {len(image_mean)} values."
            )
        return image

    def _preprocess(
        self,
        images: list[Any],
        do_resize: bool | None,
        size: SizeDict,
        resample: PILImageResampling | int,
        do_rescale: bool | None,
        rescale_factor: float,
        do_normalize: bool | None,
        image_mean: Any,
        image_std: Any,
        do_pad: bool | None,
        pad_size: SizeDict | None,
        size_divisor: int,
        return_tensors: str | TensorType | None,
        **kwargs: Any,
    ) -> BatchFeature:
        prepared = []
        for image in images:
            if do_resize:
                image = self.resize(image, size, resample=resample)
            prepared.append(
                self.rescale_and_normalize(image, do_rescale, rescale_factor, do_normalize, image_mean, image_std)
            )
        if do_pad:
            height, width = get_padded_size([image.shape[-2:] for image in prepared], size_divisor, pad_size)
            pad_size = SizeDict(height=height, width=width)
            prepared, pixel_masks = self.pad(prepared, pad_size=pad_size, return_mask=True)
        else:
            pixel_masks = [self.pad([image], return_mask=True)[1][0] for image in prepared]
        return BatchFeature({"pixel_values": prepared, "pixel_mask": pixel_masks}, tensor_type=return_tensors)

    def _make_targets(
        self,
        image: Any,
        pixel_mask: Any,
        segmentation_map: Any,
        instance_id_to_semantic_id: dict[int, int] | None,
        do_resize: bool | None,
        size: SizeDict,
        ignore_index: int | None,
        do_reduce_labels: bool | None,
        return_compact_masks: bool | None,
        **kwargs: Any,
    ) -> tuple[Any, Any]:
        """`mask_labels` and `class_labels` of one image, as arrays where `pixel_mask` is one."""
        ids, is_coco_rgb = read_segmentation_map(segmentation_map)
        image_size = tuple(image.shape[-2:])
        if ids.shape != image_size:
            raise ValueError(
                f"the segmentation map has the size {tuple(ids.shape)} but the image {image_size} (height, width; "
                "upright by the image's EXIF tag). Hand in a map of the image's size."
            )
        if isinstance(image, torch.Tensor):
            ids = ids.to(image.device)
        if do_resize:
            ids = resize_id_map(ids, get_resized_image_size(image_size, size))
        mask_labels, class_labels = compact_id_map(
            ids, instance_id_to_semantic_id, ignore_index, bool(do_reduce_labels), zero_is_void=is_coco_rgb
        )
        height, width = pixel_mask.shape
        mask_labels = pad(mask_labels, (0, width - ids.shape[1], 0, height - ids.shape[0]), value=VOID)
        if not return_compact_masks:
            mask_labels = binary_masks(mask_labels, len(class_labels))
        if isinstance(pixel_mask, torch.Tensor):
            return mask_labels, class_labels
        return mask_labels.numpy(), class_labels.numpy()


def for_each_image(function: Callable[..., Any], items: list[Any], **kwargs: Any) -> list[Any]:
    """`[function(item) for item in items]`, where a `ValueError` also says which image it is about."""
    results = []
    for index, item in enumerate(items):
        try:
            results.append(function(item, **kwargs))
        except (ValueError, OSError) as error:
            raise ValueError(f"Image {index}: {error}") from error
    return results
