"""From a video to predictions, frame by frame."""

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..inference.prediction import Prediction
from ..inference.predictor import YosoPredictor
from .reader import Frame, VideoReader
from .real_time import LatestFrames, RateMeter
from .tracking import SegmentTracker


class FrameResult(NamedTuple):
    """
    A segmented frame.

    Attributes:
        index: number of the frame in the source.
        time: seconds since the first frame.
        prediction: its segments; ids last from frame to frame if they are tracked.
        fps: measured frames per second, end to end.
        dropped: frames left out so far, to keep up in real time.
    """

    index: int
    time: float
    prediction: Prediction
    fps: float
    dropped: int


def segment_video(
    predictor: YosoPredictor,
    source: str | Path | int | VideoReader,
    *,
    subtask: str = "panoptic",
    threshold: float | None = None,
    mask_threshold: float | None = None,
    overlap_mask_area_threshold: float | None = None,
    stride: int = 1,
    max_fps: float | None = None,
    realtime: bool | None = None,
    keep_ids: bool = True,
) -> Iterator[FrameResult]:
    """
    Segments a video or a camera's pictures. Memory does not grow with the length.

    Args:
        source: path or URL, the number of a camera, or an open reader.
        subtask, threshold, mask_threshold, overlap_mask_area_threshold: as of `YosoPredictor`.
        stride, max_fps: as of `VideoReader`.
        realtime: whether to drop frames that come while the model is busy, rather than to lag behind; a file is then
            played at its own pace. By default only for cameras and network streams. Otherwise every frame is taken,
            and reading, model and post-processing of successive frames overlap.
        keep_ids: whether ids last from frame to frame; see `SegmentTracker`.

    Raises:
        MissingFileError, VideoReadError, CameraError, MissingCodecError: see `VideoReader`.
    """
    options = {
        "subtask": subtask,
        "threshold": threshold,
        "mask_threshold": mask_threshold,
        "overlap_mask_area_threshold": overlap_mask_area_threshold,
    }
    reader = source if isinstance(source, VideoReader) else VideoReader(source, stride, max_fps)
    tracker = SegmentTracker() if keep_ids else None
    meter = RateMeter()
    with reader:
        realtime = reader.is_live if realtime is None else realtime
        segment = _segment_newest if realtime else _segment_all
        for frame, prediction, dropped in segment(predictor, reader, options):
            prediction = prediction if tracker is None else tracker.update(prediction)
            yield FrameResult(frame.index, frame.time, prediction, meter.tick(), dropped)


def _segment_all(
    predictor: YosoPredictor, reader: VideoReader, options: dict[str, Any]
) -> Iterator[tuple[Frame, Prediction, int]]:
    under_way: deque[Frame] = deque()

    def images(frames: Iterable[Frame]) -> Iterator[torch.Tensor]:
        for frame in frames:
            under_way.append(frame)
            yield channels_first(frame)

    with predictor.stream(images(reader), num_workers=1, **options) as predictions:
        for prediction in predictions:
            yield under_way.popleft(), prediction, 0


def _segment_newest(
    predictor: YosoPredictor, reader: VideoReader, options: dict[str, Any]
) -> Iterator[tuple[Frame, Prediction, int]]:
    with closing(LatestFrames(reader, paced=not reader.is_live)) as frames:
        for frame in frames:
            yield frame, predictor(channels_first(frame), **options), frames.dropped


def channels_first(frame: Frame) -> torch.Tensor:
    """uint8 (3, H, W), without a copy where the frame lies straight in memory."""
    return torch.from_numpy(frame.pixels.copy() if frame.pixels.strides[1] < 0 else frame.pixels).permute(2, 0, 1)
