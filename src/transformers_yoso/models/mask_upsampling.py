"""Masks from the 1/4-scale grid to any rows of the target, in one step and only for the masks that are wanted.

The official path is two bilinear resizes, grid -> canvas, cropped to the image, -> target. Bilinear resizing works on
each axis alone, so both resizes of the columns are done first, on the few grid rows, and both resizes of the rows then
are one weighted sum of at most four grid rows: one pass over the target instead of two, and no canvas in memory.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .canvas import MASK_STRIDE, ceil_to_divisor


def own_canvas(mask_logits: Tensor, image_size: tuple[int, int]) -> tuple[Tensor, tuple[int, int]]:
    """The part of the mask grid (N, h, w) that belongs to the image's own canvas, and that canvas in pixels."""
    height, width = (ceil_to_divisor(edge) // MASK_STRIDE for edge in image_size)
    grid = mask_logits[:, :height, :width]
    return grid, (grid.shape[1] * MASK_STRIDE, grid.shape[2] * MASK_STRIDE)


def upsample_masks(mask_logits: Tensor, image_size: tuple[int, int], target_size: tuple[int, int]) -> Tensor:
    """Mask logits (K, h, w) -> float32 (K, *target_size)."""
    return MaskUpsampling(mask_logits, image_size, target_size).rows(0, target_size[0])


class MaskUpsampling:
    """Mask logits of one image, to be read at the target's size row by row.

    Args:
        mask_logits (`Tensor` of shape `(K, h, w)`): On the 1/4-scale grid of the padded input.
        image_size (`tuple[int, int]`): (height, width) in pixels of the resized image inside the padded input.
        target_size (`tuple[int, int]`): (height, width) in pixels of the result.
    """

    def __init__(self, mask_logits: Tensor, image_size: tuple[int, int], target_size: tuple[int, int]) -> None:
        self.grid, canvas = own_canvas(mask_logits, image_size)
        self.canvas_width, self.image_width, self.target_width = canvas[1], image_size[1], target_size[1]
        self.grid_rows, self.weights = two_step_taps(self.grid.shape[1], canvas[0], image_size[0], target_size[0])

    def rows(self, start: int, stop: int) -> Tensor:
        """Rows `start` to `stop` of the target, float32 `(K, stop - start, width)`."""
        grid_rows = self.grid_rows[start:stop]
        first, last = int(grid_rows.min()), int(grid_rows.max()) + 1
        maps = self.grid[:, first:last].float()
        num_masks, height, _ = maps.shape
        maps = F.interpolate(maps[None], size=(height, self.canvas_width), mode="bilinear")[..., : self.image_width]
        maps = F.interpolate(maps, size=(height, self.target_width), mode="bilinear")[0]
        offsets = torch.arange(num_masks, device=maps.device).view(-1, 1, 1) * height
        indices = (grid_rows - first).to(maps.device) + offsets
        weights = self.weights[start:stop].to(maps.device).expand(num_masks, -1, -1)
        rows = F.embedding_bag(
            indices.flatten(0, 1), maps.flatten(0, 1), per_sample_weights=weights.flatten(0, 1), mode="sum"
        )
        return rows.view(num_masks, stop - start, self.target_width)


def two_step_taps(grid: int, canvas: int, image: int, target: int) -> tuple[Tensor, Tensor]:
    """Grid cells (int64) and weights (float32) of each target position on one axis, `(target, 4)`; lengths are given."""
    canvas_cells, canvas_weights = linear_taps(grid, canvas)
    image_pixels, image_weights = linear_taps(image, target)
    return canvas_cells[image_pixels].flatten(1), (canvas_weights[image_pixels] * image_weights.unsqueeze(-1)).flatten(
        1
    )


def linear_taps(in_length: int, out_length: int) -> tuple[Tensor, Tensor]:
    """Both source indices (int64) and weights (float32) of each position of a bilinear resize, `(out_length, 2)`.

    Equal, to the bit, to those that `torch.nn.functional.interpolate` takes, which computes positions in float32 by a
    fused multiply-add.
    """
    scale = torch.tensor(in_length, dtype=torch.float32) / out_length
    position = (torch.arange(out_length, dtype=torch.float64) + 0.5) * scale.double() - 0.5
    position = position.float().clamp(min=0)
    low = position.long().clamp(max=in_length - 1)
    high_weight = position - low
    return torch.stack((low, (low + 1).clamp(max=in_length - 1)), 1), torch.stack((1 - high_weight, high_weight), 1)
