"""Videos and cameras: reading, writing, ids that last, and real time. Needs PyAV (`pip install "transformers-yoso[video]"`)."""

from .predict_video import VideoSummary, predict_video
from .reader import Frame, VideoReader, is_video_file
from .segment_video import FrameResult, segment_video
from .tracking import SegmentTracker
from .writer import VideoWriter

__all__ = [
    "Frame",
    "FrameResult",
    "SegmentTracker",
    "VideoReader",
    "VideoSummary",
    "VideoWriter",
    "is_video_file",
    "predict_video",
    "segment_video",
]
