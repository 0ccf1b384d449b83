"""A video file, written picture by picture."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..inference.errors import MissingCodecError, OutputError, one_line
from .pyav import import_av

CODECS = {".mp4": "libx264", ".mov": "libx264", ".mkv": "libx264", ".webm": "libvpx-vp9"}
OPTIONS = {
    "libx264": {"preset": "veryfast", "crf": "20"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "crf": "32", "b": "0"},
}
TIME_BASE = Fraction(1, 90000)


class VideoWriter:
    """
    Encodes pictures at given times.

    Args:
        path: its ending (.mp4, .mov, .mkv, .webm) decides on the container.
        fps: nominal frame rate.
        codec: FFmpeg's name of the encoder; by default H.264 (libx264), or VP9 for .webm.

    Raises:
        OutputError: an ending that is not known, or a file that cannot be written.
        MissingCodecError: this FFmpeg has no such encoder of video, or it cannot be used in this container.
    """

    def __init__(self, path: str | Path, fps: float, codec: str | None = None):
        av = import_av()
        self.path, ending = Path(path), Path(path).suffix.lower()
        if ending not in CODECS:
            raise OutputError(f"A video must end in one of {', '.join(CODECS)}, but this is {path}.")
        codec = codec or CODECS[ending]
        try:
            kind = av.Codec(codec, "w").type
        except ValueError as error:
            raise MissingCodecError(f"This FFmpeg has no encoder {codec!r}; name another one.") from error
        if kind != "video":
            raise MissingCodecError(f"The encoder {codec!r} is for {kind}, not for video; name another one.")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._container = av.open(str(self.path), "w")
        except OSError as error:
            raise OutputError(f"Cannot write {path} ({one_line(error)}).") from error
        try:
            rate = Fraction(fps).limit_denominator(1001)
            self._stream = self._container.add_stream(codec, rate=rate, options=OPTIONS.get(codec, {}))
        except ValueError as error:
            self._container.close()
            raise MissingCodecError(f"{ending} cannot hold {codec!r} ({one_line(error)}).") from error
        self._stream.codec_context.time_base = TIME_BASE
        self._last_pts = -1

    def write(self, picture: Image.Image | np.ndarray, time: float) -> None:
        """
        Adds a picture, RGB, that is shown from `time`, in seconds. Pictures must come in the order of their times and
        have one size; if it is odd, the last row or column is doubled, as the common codecs need.
        """
        av = import_av()
        pixels = np.asarray(picture)
        height, width = pixels.shape[:2]
        if height % 2 or width % 2:
            pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        if self._last_pts < 0:
            self._stream.width, self._stream.height = pixels.shape[1], pixels.shape[0]
            self._stream.pix_fmt = "yuv420p"
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        self._last_pts = max(self._last_pts + 1, round(time / TIME_BASE))
        frame.pts, frame.time_base = self._last_pts, TIME_BASE
        self._encode(frame)

    def _encode(self, frame: Any) -> None:
        try:
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
        except (OSError, ValueError) as error:
            raise OutputError(f"Cannot write {self.path} ({one_line(error)}).") from error

    def close(self) -> None:
        """Writes what the encoder still holds, and the file's index. Without a picture there is no file."""
        if self._last_pts >= 0:
            self._encode(None)
        self._container.close()
        if self._last_pts < 0:
            self.path.unlink(missing_ok=True)

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
