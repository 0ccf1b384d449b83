"""From a video to files: the overlay as a video, maps in COCO's format, run lengths."""

import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..inference.predictor import YosoPredictor
from ..inference.writers import CocoPanopticWriter, RleLinesWriter
from .reader import VideoReader
from .segment_video import FrameResult, segment_video
from .writer import VideoWriter


@dataclass(frozen=True)
class VideoSummary:
    """Frames segmented, frames dropped in real time, seconds it took, and the video that was written."""

    num_frames: int
    num_dropped: int
    seconds: float
    output: Path | None

    @property
    def fps(self) -> float:
        """Frames per second, end to end."""
        return self.num_frames / max(self.seconds, 1e-9)


def predict_video(
    predictor: YosoPredictor,
    source: str | Path | int | VideoReader,
    output: str | Path | None = None,
    *,
    subtask: str = "panoptic",
    threshold: float | None = None,
    mask_threshold: float | None = None,
    overlap_mask_area_threshold: float | None = None,
    stride: int = 1,
    max_fps: float | None = None,
    realtime: bool | None = None,
    keep_ids: bool = True,
    show_fps: bool = True,
    alpha: float = 0.5,
    draw_labels: bool = True,
    panoptic_dir: str | Path | None = None,
    rle_file: str | Path | None = None,
    codec: str | None = None,
    on_frame: Callable[[FrameResult], bool | None] | None = None,
) -> VideoSummary:
    """
    Segments a video and writes what is asked for, as the frames come.

    Args:
        source: path or URL, the number of a camera, or an open reader.
        output: video with the overlay, .mp4, .mov, .mkv or .webm.
        subtask, threshold, mask_threshold, overlap_mask_area_threshold: as of `YosoPredictor`.
        stride, max_fps, realtime, keep_ids: as of `segment_video`.
        show_fps: whether the overlay shows the measured frames per second, end to end.
        alpha, draw_labels: as of `draw_panoptic`.
        panoptic_dir: folder for a PNG map per frame and `panoptic.json`, in COCO's panoptic format.
        rle_file: file with a JSON line of run lengths per frame.
        codec: FFmpeg's name of the encoder; see `VideoWriter`.
        on_frame: is called with each result, for example for a progress bar; returns False to stop.

    Raises:
        MissingFileError, VideoReadError, CameraError, MissingCodecError: see `VideoReader` and `VideoWriter`.
        OutputError: a file or folder that cannot be written.
    """
    start, num_frames, num_dropped = time.monotonic(), 0, 0
    with ExitStack() as files:
        reader = source if isinstance(source, VideoReader) else VideoReader(source, stride, max_fps)
        files.enter_context(reader)
        writers = []
        if output is not None:
            video = files.enter_context(VideoWriter(output, reader.fps, codec))
            writers.append(partial(_write_overlay, video, alpha, draw_labels, show_fps))
        if panoptic_dir is not None:
            coco = CocoPanopticWriter(panoptic_dir, predictor.id2label, predictor.stuff_label_ids)
            name = f"camera{reader.source}" if isinstance(reader.source, int) else Path(reader.source).stem
            writers.append(partial(_write_panoptic, files.enter_context(coco), name))
        if rle_file is not None:
            writers.append(partial(_write_run_lengths, files.enter_context(RleLinesWriter(rle_file))))
        results = segment_video(
            predictor,
            reader,
            subtask=subtask,
            threshold=threshold,
            mask_threshold=mask_threshold,
            overlap_mask_area_threshold=overlap_mask_area_threshold,
            realtime=realtime,
            keep_ids=keep_ids,
        )
        files.enter_context(closing(results))
        for result in results:
            num_frames, num_dropped = num_frames + 1, result.dropped
            for write in writers:
                write(result)
            if on_frame is not None and on_frame(result) is False:
                break
    return VideoSummary(num_frames, num_dropped, time.monotonic() - start, None if output is None else Path(output))


def _write_overlay(video: VideoWriter, alpha: float, draw_labels: bool, show_fps: bool, result: FrameResult) -> None:
    badge = f"{result.fps:.1f} FPS" if show_fps else None
    video.write(result.prediction.draw(alpha=alpha, draw_labels=draw_labels, badge=badge), result.time)


def _write_panoptic(coco: CocoPanopticWriter, name: str, result: FrameResult) -> None:
    coco.write(result.prediction, f"{name}_{result.index:06d}.jpg")


def _write_run_lengths(lines: RleLinesWriter, result: FrameResult) -> None:
    lines.write(result.prediction, frame=result.index, time=round(result.time, 4))
