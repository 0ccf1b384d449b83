"""Random crops of one size, padded where the photo is smaller."""

from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from ..sample import VOID

IMAGE_PAD_VALUE = 128
"""Raw grey value (0-255) around photos that are smaller than the crop, as in the released recipes."""

CROP_TRIES = 10


class FixedSizeCropOrPad(v2.Transform):
    """
    Random crop to a fixed size; sides that are shorter are padded at the right and the bottom.

    With a limit below 1 on a single category, the crop is drawn again, up to ten times in all, until it holds at least
    two categories and none has more than this share of the labelled pixels, as detectron2's
    `RandomCrop_CategoryAreaConstraint` does. The inputs are then photo, map and [`ClassLabels`].

    Args:
        size: height and width in pixels.
        single_category_max_area: largest share in (0, 1]; 1 takes the first crop.
    """

    def __init__(self, size: tuple[int, int], single_category_max_area: float = 1.0):
        super().__init__()
        self.size, self.single_category_max_area = size, single_category_max_area

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        window = self._draw(*F.get_size(flat_inputs[0]))
        if self.single_category_max_area < 1:
            segment_map, class_labels = (item.as_subclass(Tensor) for item in flat_inputs[1:])
            for _ in range(CROP_TRIES - 1):
                if self._is_mixed(F.crop(segment_map[None], **window), class_labels):
                    break
                window = self._draw(*F.get_size(flat_inputs[0]))
        return window

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        if not isinstance(inpt, tv_tensors.Image | tv_tensors.Mask):
            return inpt
        cropped = F.crop(inpt, **params)
        below, right = self.size[0] - params["height"], self.size[1] - params["width"]
        if not below and not right:
            return cropped
        fill = VOID if isinstance(inpt, tv_tensors.Mask) else IMAGE_PAD_VALUE
        return F.pad(cropped, [0, 0, right, below], fill=fill)

    def _draw(self, height: int, width: int) -> dict[str, int]:
        crop_height, crop_width = min(height, self.size[0]), min(width, self.size[1])
        return {
            "top": int(torch.randint(height - crop_height + 1, ())),
            "left": int(torch.randint(width - crop_width + 1, ())),
            "height": crop_height,
            "width": crop_width,
        }

    def _is_mixed(self, segment_map: Tensor, class_labels: Tensor) -> bool:
        areas = torch.bincount(segment_map.flatten() - VOID, minlength=len(class_labels) + 1)[1:]
        per_category = torch.zeros(int(class_labels.max()) + 1 if len(class_labels) else 1, dtype=areas.dtype)
        per_category.index_add_(0, class_labels, areas)
        present = per_category[per_category > 0]
        return len(present) > 1 and float(present.max() / present.sum()) <= self.single_category_max_area
