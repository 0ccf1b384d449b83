"""One in-memory form of a panoptic sample: photo, compact segment map and the segments' labels."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..models.segmentation_targets import VOID


@dataclass(frozen=True)
class PanopticSample:
    """
    A photo with its panoptic ground truth; every reader makes it and every transform keeps it.

    Attributes:
        image: uint8 `(3, height, width)`, RGB, 0-255; in any memory format.
        segment_map: int32 `(height, width)`; value `k` in `[0, num_segments)` belongs to segment `k`, `VOID` to none;
            a segment may have no pixel.
        class_labels: int64 `(num_segments,)`, contiguous label ids.
        is_crowd: bool `(num_segments,)`; a crowd region holds several objects that nobody told apart.
        image_id: the dataset's id of the photo.
        file_name: where the photo came from, for messages.
    """

    image: Tensor
    segment_map: Tensor
    class_labels: Tensor
    is_crowd: Tensor
    image_id: int | str
    file_name: str

    def __post_init__(self):
        if self.image.shape[-2:] != self.segment_map.shape:
            raise ValueError(
                f"{self.file_name}: the photo is {_size(self.image)} and its segment map {_size(self.segment_map)} "
                "(height x width). Both must have one size."
            )
        if len(self.class_labels) != len(self.is_crowd):
            raise ValueError(
                f"{self.file_name}: {len(self.class_labels)} class labels but {len(self.is_crowd)} crowd marks."
            )

    @property
    def num_segments(self) -> int:
        return len(self.class_labels)


def keep_segments(sample: PanopticSample, keep: Tensor) -> PanopticSample:
    """Drops the segments where `keep` (bool, `(num_segments,)`) is false: their pixels become void, ids stay compact."""
    if bool(keep.all()):
        return sample
    new_ids = torch.where(keep, keep.cumsum(0) - 1, VOID)
    lookup = torch.cat([new_ids, torch.tensor([VOID])]).to(sample.segment_map.dtype)  # index -1 is the void entry
    return replace(
        sample,
        segment_map=lookup[sample.segment_map],
        class_labels=sample.class_labels[keep],
        is_crowd=sample.is_crowd[keep],
    )


def segment_areas(sample: PanopticSample) -> Tensor:
    """Number of pixels of each segment, int64 `(num_segments,)`."""
    return torch.bincount(sample.segment_map.flatten() - VOID, minlength=sample.num_segments + 1)[1:]


def drop_empty_segments(sample: PanopticSample) -> PanopticSample:
    """Drops segments without a pixel, for example after a crop: they are no training targets."""
    return keep_segments(sample, segment_areas(sample) > 0)


def drop_crowd_segments(sample: PanopticSample) -> PanopticSample:
    """Turns crowd regions into void: they are no training targets."""
    return keep_segments(sample, ~sample.is_crowd)


def _size(array: Tensor) -> str:
    return "x".join(str(side) for side in array.shape[-2:])
