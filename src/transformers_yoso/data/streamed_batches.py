"""Training batches from a stream: seeded shuffle buffer, a share for every process, a position to resume from."""

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from torch.utils.data import Sampler

from .sample_stream import SampleKey

if TYPE_CHECKING:
    import datasets

KEPT_POSITIONS = 1024
"""Batches back for which a position can be asked: more than any loader prefetches."""


class StreamedBatches(Sampler[list[SampleKey]]):
    """
    Endless batches of encoded rows; epochs follow without a gap, each shuffled anew from `(seed, epoch)`.

    Rows are read in the process that iterates; a loader's workers get them with the keys, decode and augment, so their
    number changes nothing. Processes divide the shards if their number allows, else the rows. The order is exact for
    the same stream, seed, buffer size, number of processes and version of `datasets`: resuming at a position replays
    the rows of its epoch that came before, without decoding them.

    Args:
        rows: the stream; its picture columns should be undecoded.
        shuffle_buffer_size: rows from which the next one is drawn.
        batch_size: samples per process and step.
        seed: of the order.
        process_index: rank of this process.
        num_processes: number of processes.
        position: what `position_after` gave in this process before a restart; None starts at the beginning.
    """

    def __init__(
        self,
        rows: "datasets.IterableDataset",
        shuffle_buffer_size: int,
        batch_size: int,
        seed: int,
        process_index: int = 0,
        num_processes: int = 1,
        position: dict[str, Any] | None = None,
    ):
        if num_processes > 1:
            from datasets.distributed import split_dataset_by_node

            rows = split_dataset_by_node(rows, process_index, num_processes)
        self.rows, self.shuffle_buffer_size, self.batch_size, self.seed = rows, shuffle_buffer_size, batch_size, seed
        self.process_index, self.num_processes = process_index, num_processes
        self.start = position or {"batch": 0, "epoch": 0, "row": 0}
        self._positions = {self.start["batch"]: self.start}

    def __iter__(self) -> Iterator[list[SampleKey]]:
        keys = self._keys()
        batch = self.start["batch"]
        while True:
            chosen = list(islice(keys, self.batch_size))
            batch += 1
            next_row = chosen[-1].index // self.num_processes + 1
            self._positions[batch] = {"batch": batch, "epoch": chosen[-1].epoch, "row": next_row}
            self._positions.pop(batch - KEPT_POSITIONS, None)
            yield chosen

    def position_after(self, num_batches: int) -> dict[str, Any]:
        """
        Where this process stands when it has consumed `num_batches` batches since the training's beginning.

        Loaders run ahead, so the consumer counts. The result is JSON-serialisable and differs from process to process.

        Raises:
            ValueError: the batch has not been given out, or longer ago than `KEPT_POSITIONS` batches.
        """
        if num_batches not in self._positions:
            raise ValueError(
                f"No position is known for {num_batches} batches; known are {sorted(self._positions)[-3:]}."
            )
        return dict(self._positions[num_batches])

    def _keys(self) -> Iterator[SampleKey]:
        epoch, first = self.start["epoch"], self.start["row"]
        while True:
            seed = int(np.random.SeedSequence([self.seed, epoch]).generate_state(1)[0])
            row_number = -1
            for row_number, row in enumerate(self.rows.shuffle(seed=seed, buffer_size=self.shuffle_buffer_size)):
                if row_number >= first:
                    # the index is unique over all processes: it seeds the sample's augmentation
                    yield SampleKey(epoch, row_number * self.num_processes + self.process_index, row)
            if row_number < 0:
                raise ValueError(f"The stream has no rows for process {self.process_index} of {self.num_processes}.")
            epoch, first = epoch + 1, 0
