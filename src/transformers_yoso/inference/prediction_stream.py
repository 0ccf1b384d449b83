"""Results of a running pipeline, one at a time and in order."""

import threading
from collections import deque
from collections.abc import Iterator

from .prediction import FailedPrediction, Prediction


class PredictionStream(Iterator[Prediction | FailedPrediction]):
    """
    Iterator over the results of `YosoPredictor.stream`, in the order of the images.

    With `on_error="raise"` an image that cannot be read raises at its turn; `next` may then be called again for the
    others. The threads end with the last result, with `close()`, at the end of a `with` block, or when the stream is
    no longer used.
    """

    def __init__(self, batches: Iterator[list[Prediction | FailedPrediction]], stop: threading.Event, on_error: str):
        self._batches, self._stop, self._on_error = batches, stop, on_error
        self._waiting: deque[Prediction | FailedPrediction] = deque()

    def __next__(self) -> Prediction | FailedPrediction:
        while not self._waiting:
            self._waiting.extend(next(self._batches))
        result = self._waiting.popleft()
        if isinstance(result, FailedPrediction) and self._on_error == "raise":
            raise result.error
        return result

    def close(self) -> None:
        """Ends the threads; results that wait are lost."""
        self._stop.set()
        self._waiting.clear()

    def __enter__(self) -> "PredictionStream":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __del__(self) -> None:
        self._stop.set()
