"""Checks of training labels at the model's boundary, so that no shape error comes up ten frames down."""

import torch
from torch import Tensor

from .canvas import ceil_to_divisor


def check_labels(
    mask_labels: list[Tensor], class_labels: list[Tensor], image_shape: torch.Size, num_labels: int
) -> None:
    """
    Args:
        mask_labels, class_labels (`list[Tensor]`): See [`YosoForUniversalSegmentation.forward`].
        image_shape (`torch.Size`): `(B, 3, H, W)` of the images.
        num_labels (`int`): Of the config.

    Raises:
        ValueError: if they do not fit to each other, to the images or to the config.
    """
    batch_size, _, *size = image_shape
    if len(mask_labels) != batch_size or len(class_labels) != batch_size:
        raise ValueError(
            f"{batch_size} images need as many `mask_labels` and `class_labels`, got {len(mask_labels)} and "
            f"{len(class_labels)}."
        )
    canvas = [ceil_to_divisor(length) for length in size]
    for index, (masks, labels) in enumerate(zip(mask_labels, class_labels, strict=True)):
        if not isinstance(masks, Tensor) or not isinstance(labels, Tensor):
            raise ValueError(
                f"`mask_labels` and `class_labels` must be lists of tensors, got {type(masks).__name__} and "
                f"{type(labels).__name__} for image {index}."
            )
        if masks.dim() not in (2, 3) or (masks.dim() == 2 and not _is_integer(masks)):
            raise ValueError(
                f"`mask_labels[{index}]` must be masks (n, height, width) or an integer id map (height, width), "
                f"got shape {tuple(masks.shape)} and {masks.dtype}."
            )
        if any(length > limit for length, limit in zip(masks.shape[-2:], canvas, strict=True)):
            raise ValueError(
                f"`mask_labels[{index}]` of height and width {tuple(masks.shape[-2:])} are larger than the image "
                f"{tuple(size)}. Resize them with their image, as `YosoImageProcessor` does."
            )
        if masks.dim() == 3 and len(masks) != len(labels):
            raise ValueError(f"Image {index} has {len(masks)} `mask_labels` but {len(labels)} `class_labels`.")
        _check_class_labels(labels, index, num_labels)


def _check_class_labels(labels: Tensor, index: int, num_labels: int) -> None:
    if labels.dim() != 1 or (len(labels) and not _is_integer(labels)):
        raise ValueError(
            f"`class_labels[{index}]` must be the integer label ids (n,) of the segments, got shape "
            f"{tuple(labels.shape)} and {labels.dtype}."
        )
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < num_labels:
        raise ValueError(
            f"`class_labels[{index}]` holds {sorted(set(labels.tolist()))}; the config has label ids "
            f"0..{num_labels - 1}. Map the ids, or set `id2label` to the dataset's labels."
        )


def _is_integer(tensor: Tensor) -> bool:
    """Whether the dtype is one of whole numbers; bool is not."""
    return not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)
