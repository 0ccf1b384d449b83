"""Real time: the newest frame, whatever was missed, and the rate that is reached."""

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator

from .reader import Frame


class LatestFrames(Iterator[Frame]):
    """
    Reads frames in a thread and hands out the newest only; older ones that nobody took are dropped.

    Args:
        frames: for example a `VideoReader`.
        paced: whether to hold each frame back until its time, as a file would else be read as fast as can be.

    Attributes:
        dropped: frames that were read and not handed out.
    """

    def __init__(self, frames: Iterable[Frame], paced: bool):
        self.dropped = 0
        self._newest: Frame | None = None
        self._error: BaseException | None = None
        self._ended = False
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, args=(frames, paced), daemon=True)
        self._thread.start()

    def __next__(self) -> Frame:
        with self._changed:
            self._changed.wait_for(lambda: self._newest is not None or self._ended)
            frame, self._newest = self._newest, None
        if frame is not None:
            return frame
        if self._error is not None:
            raise self._error
        raise StopIteration

    def close(self) -> None:
        """Ends the thread, so that its source may be closed."""
        self._stop.set()
        self._thread.join()

    def _read(self, frames: Iterable[Frame], paced: bool) -> None:
        start = time.monotonic()
        try:
            for frame in frames:
                if self._stop.wait(max(0.0, start + frame.time - time.monotonic()) if paced else 0.0):
                    break
                with self._changed:
                    self.dropped += self._newest is not None
                    self._newest = frame
                    self._changed.notify()
        except BaseException as error:
            self._error = error
        with self._changed:
            self._ended = True
            self._changed.notify()


class RateMeter:
    """Frames per second over the last `window` results."""

    def __init__(self, window: int = 30):
        self._times: deque[float] = deque([time.monotonic()], maxlen=window + 1)

    def tick(self) -> float:
        """Notes one more result; returns the rate."""
        self._times.append(time.monotonic())
        return (len(self._times) - 1) / max(self._times[-1] - self._times[0], 1e-9)
