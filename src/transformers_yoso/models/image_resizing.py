"""The sizes images are resized to, and the resizing of maps of ids."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from transformers.image_utils import SizeDict

from .canvas import ceil_to_divisor


def get_resized_image_size(image_size: Sequence[int], size: SizeDict) -> tuple[int, int]:
    """The `(height, width)` in pixels to which an image of `image_size` is resized.

    `{"shortest_edge", "longest_edge"}` scales the shorter edge to the first, or the longer edge to the second where
    it would grow beyond it (`longest_edge` may be left out), and rounds half up, as detectron2 does for the official
    models. `{"height", "width"}` is taken as it is.
    """
    if size.height and size.width:
        return size.height, size.width
    scale = size.shortest_edge / min(image_size)
    # The shorter edge is exact, the longer one a single product: the rounding of the official code depends on it.
    height, width = (size.shortest_edge if edge == min(image_size) else scale * edge for edge in image_size)
    if size.longest_edge and max(height, width) > size.longest_edge:
        scale = size.longest_edge / max(height, width)
        height, width = height * scale, width * scale
    return max(1, int(height + 0.5)), max(1, int(width + 0.5))


def get_padded_size(
    image_sizes: Iterable[tuple[int, int]], size_divisor: int, pad_size: SizeDict | None = None
) -> tuple[int, int]:
    """The `(height, width)` of a batch: `pad_size`, or the least multiples of `size_divisor` that hold every image."""
    if pad_size is not None:
        return pad_size.height, pad_size.width
    heights, widths = zip(*image_sizes, strict=True)
    return ceil_to_divisor(max(heights), size_divisor), ceil_to_divisor(max(widths), size_divisor)


def resize_id_map(ids: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a map of ids (H, W) to `size`: each new pixel takes the id under its centre (PIL's nearest)."""
    rows, columns = (
        (2 * torch.arange(new, device=ids.device) + 1) * old // (2 * new)
        for new, old in zip(size, ids.shape, strict=True)
    )
    return ids[rows[:, None], columns]
