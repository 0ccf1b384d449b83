"""`map` that works ahead in threads; several in a row make a pipeline whose stages overlap."""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

In = TypeVar("In")
Out = TypeVar("Out")

POLL_SECONDS = 0.1
END = object()


class ThreadedMap(Iterator[Out], Generic[In, Out]):
    """
    `map(function, items)`, computed ahead in threads, with results in the order of `items`.

    Args:
        function: runs in one of `num_workers` threads. Its exception is raised at the item's turn, and `next` may be
            called again for the items behind it.
        items: is iterated in a thread of its own. Its exception is raised last.
        stop: ends the work when set; shared by the stages of a pipeline.
        ahead: results, done or under way, that may wait. Memory is bounded by it.
    """

    def __init__(
        self,
        function: Callable[[In], Out],
        items: Iterable[In],
        stop: threading.Event,
        num_workers: int = 1,
        ahead: int = 1,
    ):
        self._stop = stop
        self._results: queue.Queue[Any] = queue.Queue(maxsize=ahead)
        arguments = (function, items, stop, num_workers, self._results)
        threading.Thread(target=_feed, args=arguments, daemon=True).start()

    def __next__(self) -> Out:
        while not self._stop.is_set():
            try:
                entry = self._results.get(timeout=POLL_SECONDS)
            except queue.Empty:
                continue
            if entry is END:
                self._results.put(END)
                break
            return entry.result()
        raise StopIteration


def _feed(
    function: Callable[[In], Out],
    items: Iterable[In],
    stop: threading.Event,
    num_workers: int,
    results: "queue.Queue[Any]",
) -> None:
    """Hands items to the workers; knows nothing of the `ThreadedMap`, which can thus be collected when unused."""
    with ThreadPoolExecutor(num_workers) as pool:
        try:
            for item in items:
                if not _put(results, pool.submit(function, item), stop):
                    return
        except BaseException as error:
            failure: Future = Future()
            failure.set_exception(error)
            _put(results, failure, stop)
        _put(results, END, stop)


def _put(results: "queue.Queue[Any]", entry: Any, stop: threading.Event) -> bool:
    while not stop.is_set():
        try:
            results.put(entry, timeout=POLL_SECONDS)
        except queue.Full:
            continue
        return True
    return False
