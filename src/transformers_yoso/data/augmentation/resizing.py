"""Random scales of photo and segment map together."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F
from transformers.image_utils import SizeDict

from ...models.image_resizing import get_resized_image_size


class ResizeTogether(v2.Transform):
    """
    Resizes to `params["size"]`: photos bilinearly with antialiasing, maps by the nearest pixel centre.

    Outlines so stay on the objects; torchvision's own resizing transforms take the nearest corner for maps, which
    shifts them by up to half a pixel.
    """

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        if isinstance(inpt, tv_tensors.Mask):
            resized = F.resize(inpt.as_subclass(Tensor)[None], params["size"], InterpolationMode.NEAREST_EXACT)[0]
            return tv_tensors.wrap(resized, like=inpt)
        if isinstance(inpt, tv_tensors.Image):
            return F.resize(inpt, params["size"], InterpolationMode.BILINEAR, antialias=True)
        return inpt


class LargeScaleJitter(ResizeTogether):
    """
    Scales by `s * min(crop_height / height, crop_width / width)` with `s` uniform (Ghiasi et al., 2012.07177).

    Args:
        crop_size: height and width in pixels that a photo fits into at scale 1.
        scale_range: smallest and largest `s`.
    """

    def __init__(self, crop_size: tuple[int, int], scale_range: Sequence[float]):
        super().__init__()
        self.crop_size, self.scale_range = crop_size, tuple(scale_range)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        height, width = F.get_size(flat_inputs[0])
        smallest, largest = self.scale_range
        jitter = smallest + (largest - smallest) * float(torch.rand(()))
        scale = jitter * min(self.crop_size[0] / height, self.crop_size[1] / width)
        return {"size": [max(int(side * scale + 0.5), 1) for side in (height, width)]}


class ResizeShortestEdge(ResizeTogether):
    """
    Scales the shortest edge to one of some sizes, each as likely, as detectron2's `ResizeShortestEdge` with "choice".

    Args:
        shortest_edges: sizes in pixels to choose from.
        longest_edge: the scale is lowered where the longest edge would exceed this.
    """

    def __init__(self, shortest_edges: Sequence[int], longest_edge: int | None = None):
        super().__init__()
        self.shortest_edges, self.longest_edge = tuple(shortest_edges), longest_edge

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        chosen = self.shortest_edges[int(torch.randint(len(self.shortest_edges), ()))]
        size = SizeDict(shortest_edge=chosen, longest_edge=self.longest_edge)
        return {"size": list(get_resized_image_size(F.get_size(flat_inputs[0]), size))}
