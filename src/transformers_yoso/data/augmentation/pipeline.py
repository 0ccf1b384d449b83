"""The training augmentation: scale, crop, flip and colour of one sample."""

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms import v2

from ..sample import PanopticSample, drop_crowd_segments, drop_empty_segments
from .color import ColorDistortion
from .cropping import FixedSizeCropOrPad
from .inputs import ClassLabels
from .resizing import LargeScaleJitter, ResizeShortestEdge

DEFAULT_SCALE_RANGE = (0.1, 2.0)


class TrainingAugmentation(nn.Module):
    """
    Random flip, random scale, crop or pad to a fixed size and, if asked, SSD's colour distortion.

    The scale is large-scale jitter (COCO recipe) or, with `shortest_edges`, a choice of the shortest edge (the other
    recipes). Segments that vanish are dropped and crowd segments become void. The random draws come from torch's global
    generator.

    Args:
        size: height and width of the crop in pixels, or the side of a square one.
        scale_range: smallest and largest scale of the jitter; 1 fits the photo into the crop. (0.1, 2.0) if neither
            this nor `shortest_edges` is given.
        color_distortion: whether brightness, contrast, saturation and hue vary.
        shortest_edges: sizes in pixels among which the shortest edge is chosen.
        longest_edge: cap of the longest edge in pixels, with `shortest_edges`.
        single_category_max_area: crops are drawn again, up to 10 times, until no class has more than this share of
            their labelled pixels; 1 takes every crop.
        horizontal_flip: whether every other photo is mirrored.

    Raises:
        ValueError: a size, scale or share out of range, or both kinds of scale.
    """

    def __init__(
        self,
        size: int | Sequence[int],
        scale_range: Sequence[float] | None = None,
        color_distortion: bool = False,
        *,
        shortest_edges: Sequence[int] | None = None,
        longest_edge: int | None = None,
        single_category_max_area: float = 1.0,
        horizontal_flip: bool = True,
    ):
        super().__init__()
        crop_size = (size, size) if isinstance(size, int) else tuple(size)
        if len(crop_size) != 2 or min(crop_size) < 1:
            raise ValueError(f"`size` must be a side or height and width in pixels, got {size}.")
        if not 0 < single_category_max_area <= 1:
            raise ValueError(f"`single_category_max_area` must lie in (0, 1], got {single_category_max_area}.")
        steps = [v2.RandomHorizontalFlip()] if horizontal_flip else []
        steps.append(_random_scale(crop_size, scale_range, shortest_edges, longest_edge))
        steps.append(FixedSizeCropOrPad(crop_size, single_category_max_area))
        if color_distortion:
            steps.append(ColorDistortion())
        self.steps = v2.Compose(steps)

    def forward(self, sample: PanopticSample) -> PanopticSample:
        return apply_to_sample(self.steps, drop_crowd_segments(sample))


def apply_to_sample(transform: nn.Module, sample: PanopticSample) -> PanopticSample:
    """Runs a torchvision v2 transform on photo, map and class labels with the same random draw."""
    inputs = tv_tensors.Image(sample.image), tv_tensors.Mask(sample.segment_map), ClassLabels(sample.class_labels)
    image, mask, _ = transform(*inputs)
    image, segment_map = image.as_subclass(Tensor), mask.as_subclass(Tensor).contiguous()
    return drop_empty_segments(replace(sample, image=image, segment_map=segment_map))


def _random_scale(
    crop_size: tuple[int, int],
    scale_range: Sequence[float] | None,
    shortest_edges: Sequence[int] | None,
    longest_edge: int | None,
) -> v2.Transform:
    if not shortest_edges:
        if longest_edge is not None:
            raise ValueError("`longest_edge` caps the choice of `shortest_edges`, which is not given.")
        smallest, largest = scale_range or DEFAULT_SCALE_RANGE
        if not 0 < smallest <= largest:
            raise ValueError(f"`scale_range` must be 0 < smallest <= largest, got {scale_range}.")
        return LargeScaleJitter(crop_size, (smallest, largest))
    if scale_range is not None:
        raise ValueError("Give `scale_range` (large-scale jitter) or `shortest_edges`, not both.")
    if min(shortest_edges) < 1 or (longest_edge is not None and longest_edge < min(shortest_edges)):
        raise ValueError(
            "`shortest_edges` must be positive and `longest_edge` at least the smallest of them, got "
            f"{list(shortest_edges)} and {longest_edge}."
        )
    return ResizeShortestEdge(shortest_edges, longest_edge)
