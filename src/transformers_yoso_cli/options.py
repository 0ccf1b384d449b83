"""What `yoso predict` was asked for."""

from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple


class OutputForm(str, Enum):
    """A form in which results are written."""

    OVERLAY = "overlay"
    COCO = "coco"
    RLE = "rle"


@dataclass(frozen=True)
class PredictOptions:
    """
    Options of photos and videos.

    Attributes:
        forms: what is written.
        segmentation: subtask and thresholds, as `YosoPredictor` takes them.
        batch_size: photos that go through the model at once.
        drawing: `alpha` and `draw_labels`, as `draw_panoptic` takes them.
        legend: whether photos get a legend.
        sampling: `stride` and `max_fps`, as `VideoReader` takes them.
        realtime, track, codec: as `realtime`, `keep_ids` and `codec` of `predict_video`.
    """

    forms: frozenset[OutputForm]
    segmentation: dict[str, Any]
    batch_size: int
    drawing: dict[str, Any]
    legend: bool
    sampling: dict[str, Any]
    realtime: bool | None
    track: bool
    codec: str | None


class ModelOptions(NamedTuple):
    """Which checkpoint (None: the one that comes with the package), its input's edges, and where and how it runs."""

    checkpoint: str | None
    size: tuple[int, int] | None
    device: str | None
    dtype: str
