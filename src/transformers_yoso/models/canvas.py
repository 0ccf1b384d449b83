"""The canvas of an image: its size rounded up to the network's coarsest stride, filled up right and bottom.

Features depend on the canvas: convolutions see its border, coordinate features span it, pre-attention sums over it.
A batch of photos of different sizes is padded to its largest. To give each photo the result it has alone, the network
runs on each photo's own canvas, those of equal size together, and the outputs are laid onto the batch's canvas.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

SIZE_DIVISOR = 32

MASK_STRIDE = 4
"""One cell of the feature map and of the masks covers this many pixels of the canvas, in each direction."""

# Logit of "surely not in the mask" for pixels outside of an image's own canvas; exact in float16.
OUTSIDE_LOGIT = -1000.0


def ceil_to_divisor(size: int, divisor: int = SIZE_DIVISOR) -> int:
    """The least multiple of `divisor` that is not below `size`, both in pixels."""
    return -(-size // divisor) * divisor


def image_sizes_from_mask(pixel_mask: Tensor) -> Tensor:
    """`(B, H, W)`, 1 for image and 0 for padding right and bottom -> heights and widths `(B, 2)` in pixels, int64."""
    valid = pixel_mask.bool()
    return torch.stack((valid.any(dim=2).sum(1), valid.any(dim=1).sum(1)), dim=1)


def mask_from_image_sizes(image_sizes: Tensor, size: tuple[int, int]) -> Tensor:
    """Heights and widths `(B, 2)` -> bool masks `(B, H, W)` of `size`, true from the top left up to them."""
    rows = torch.arange(size[0], device=image_sizes.device) < image_sizes[:, :1]
    columns = torch.arange(size[1], device=image_sizes.device) < image_sizes[:, 1:]
    return rows[:, :, None] & columns[:, None, :]


def pad_to_divisor(pixel_values: Tensor) -> Tensor:
    """Zero-pads `(B, 3, H, W)` right and bottom to multiples of the coarsest stride. No copy if that is nothing."""
    height, width = pixel_values.shape[-2:]
    right, bottom = ceil_to_divisor(width) - width, ceil_to_divisor(height) - height
    if not torch.compiler.is_compiling() and right == bottom == 0:  # a graph shall hold for every size
        return pixel_values
    return F.pad(pixel_values, (0, right, 0, bottom))


def group_by_canvas(image_sizes: Tensor, batch_canvas: tuple[int, int]) -> dict[tuple[int, int], list[int]] | None:
    """Indices of the images of each canvas (height, width); `None` if all fill the batch's canvas."""
    groups: dict[tuple[int, int], list[int]] = {}
    for index, (height, width) in enumerate(image_sizes.tolist()):
        canvas = (
            min(ceil_to_divisor(max(height, 1)), batch_canvas[0]),
            min(ceil_to_divisor(max(width, 1)), batch_canvas[1]),
        )
        groups.setdefault(canvas, []).append(index)
    return None if list(groups) == [batch_canvas] else groups


def lay_on_canvas(maps: Tensor, size: tuple[int, int], fill: float) -> Tensor:
    """Pads maps `(..., h, w)` right and bottom with `fill` to `size`, in cells of the map."""
    return F.pad(maps, (0, size[1] - maps.shape[-1], 0, size[0] - maps.shape[-2]), value=fill)
