"""Frames of a video file, a network stream or a camera, one at a time."""

import platform
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..inference.errors import CameraError, MissingCodecError, MissingFileError, VideoReadError, one_line
from .pyav import import_av

VIDEO_ENDINGS = frozenset(
    [".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".wmv", ".flv", ".3gp", ".ogv", ".gif"]
)
LIVE_PROTOCOLS = ("rtsp:", "rtmp:", "udp:", "rtp:", "srt:", "http:", "https:")
CAMERA_FORMATS = {"Linux": "v4l2", "Darwin": "avfoundation", "Windows": "dshow"}
DEFAULT_FPS = 25.0
CLOCK_TOLERANCE = 1e-3


class Frame(NamedTuple):
    """One picture: its number in the source, seconds since the first one, RGB uint8 (H, W, 3)."""

    index: int
    time: float
    pixels: np.ndarray


def is_video_file(path: str | Path) -> bool:
    """Whether a path has the ending of a video."""
    return Path(path).suffix.lower() in VIDEO_ENDINGS


class VideoReader:
    """
    Iterates the frames of a video; holds one at a time.

    Args:
        source: path or URL, or the number of a camera.
        stride: every how many frames one is taken.
        max_fps: so many frames per second of the video are taken at most.

    Attributes:
        fps: frames per second that are taken, going by what the file says of itself.
        num_frames: how many will be taken, about; None if the source does not tell.
        is_live: whether the source does not wait for its reader.

    Raises:
        MissingFileError: a path without a file.
        CameraError: a camera that cannot be opened.
        VideoReadError: not a video, or one without frames.
        MissingCodecError: this FFmpeg has no decoder for it.
        ValueError: `stride` or `max_fps` is not positive.
    """

    def __init__(self, source: str | Path | int, stride: int = 1, max_fps: float | None = None):
        if stride < 1:
            raise ValueError(f"`stride` must be at least 1, but is {stride}.")
        if max_fps is not None and not max_fps > 0:
            raise ValueError(f"`max_fps` must be positive, but is {max_fps}.")
        self.source, self.stride, self.max_fps = source, stride, max_fps
        self._lock, self._closed = threading.Lock(), False
        self.is_live = isinstance(source, int) or str(source).lower().startswith(LIVE_PROTOCOLS)
        self._container = open_camera(source) if isinstance(source, int) else open_video(str(source))
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"
        source_fps = float(self._stream.average_rate or self._stream.guessed_rate or DEFAULT_FPS)
        self.fps = min(source_fps / stride, max_fps or float("inf"))
        self.num_frames = None if self.is_live else self._count_frames(source_fps)

    def _count_frames(self, source_fps: float) -> int | None:
        if self._stream.frames:
            seconds = self._stream.frames / source_fps
        elif self._container.duration:
            seconds = self._container.duration / 1e6
        else:
            return None
        return max(1, round(seconds * self.fps))

    def __iter__(self) -> Iterator[Frame]:
        interval = 0.0 if self.max_fps is None else 1 / self.max_fps
        start, due, index = None, 0.0, -1
        for index, frame in enumerate(self._decode()):
            time = index / DEFAULT_FPS if frame.time is None else frame.time
            start = time if start is None else start
            if index % self.stride == 0 and time - start >= due - CLOCK_TOLERANCE:
                due = max(due + interval, time - start)
                yield Frame(index, time - start, upright_pixels(frame))
        if index < 0:
            raise VideoReadError(f"{self.source}: the video has no frames that can be decoded.")

    def _decode(self) -> Iterator[Any]:
        """All frames; a broken packet is left out, as players do."""
        av = import_av()
        packets = self._container.demux(self._stream)
        while True:
            with self._lock:
                try:
                    frames = [] if self._closed else next(packets).decode()
                except av.error.InvalidDataError:
                    continue
                except StopIteration:
                    return
                except av.error.FFmpegError as error:
                    raise VideoReadError(f"{self.source}: reading stopped ({one_line(error)}).") from error
            if self._closed:
                return
            yield from frames

    def close(self) -> None:
        """Closes the source; a thread that is iterating comes to its end."""
        with self._lock:
            self._closed = True
            self._container.close()

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def upright_pixels(frame: Any) -> np.ndarray:
    """RGB uint8 (H, W, 3) of a frame of PyAV, turned as the file asks (phones record upright videos lying)."""
    return np.rot90(frame.to_ndarray(format="rgb24"), k=round(frame.rotation / 90))


def open_video(source: str) -> Any:
    """PyAV's container of a file or URL that has a video with a decoder."""
    av = import_av()
    if "://" not in source and not Path(source).is_file():
        raise MissingFileError(f"There is no file {source}.")
    try:
        container = av.open(source)
    except av.error.FFmpegError as error:
        raise VideoReadError(f"{source}: no video, or a broken one ({one_line(error.strerror or error)}).") from error
    is_picture = container.format.name in ("image2", "tty") or container.format.name.endswith("_pipe")
    if is_picture or not container.streams.video:
        container.close()
        raise VideoReadError(
            f"{source}: {'a picture or text' if is_picture else 'a file without a picture track'}, no video."
        )
    if container.streams.video[0].codec_context is None:
        container.close()
        raise MissingCodecError(f"{source}: this FFmpeg has no decoder for the video's codec.")
    return container


def open_camera(index: int) -> Any:
    """PyAV's container of the camera with a number (Linux: /dev/video<index>)."""
    av = import_av()
    system = platform.system()
    device = {"Linux": f"/dev/video{index}", "Darwin": str(index)}.get(system, f"video={index}")
    if system == "Linux" and not Path(device).exists():
        raise CameraError(f"There is no camera {index} ({device} does not exist).")
    try:
        return av.open(device, format=CAMERA_FORMATS.get(system))
    except (av.error.FFmpegError, ValueError) as error:
        raise CameraError(f"Cannot open camera {index} ({device}: {one_line(error)}).") from error
