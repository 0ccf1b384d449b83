"""Panoptic samples from a table of the `datasets` library, by index or streamed."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch.utils.data import IterableDataset

from ..categories import CategoryTable
from ..sample import PanopticSample
from ..streamed_batches import StreamedBatches
from .base import PanopticDataset
from .records import PanopticRecord
from .row_formats import RowFormat

if TYPE_CHECKING:
    import datasets


class TablePanopticDataset(PanopticDataset):
    """
    Samples of a `datasets.Dataset`.

    Args:
        rows: the table.
        row_format: which columns hold what.
        categories: the classes.
        source: name for messages.

    Raises:
        ValueError: the table lacks a column.
    """

    def __init__(self, rows: "datasets.Dataset", row_format: RowFormat, categories: CategoryTable, source: str):
        require_columns(rows.column_names, row_format.columns, source)
        self.rows, self.row_format = keep_encoded(rows, row_format.picture_columns), row_format
        self.categories, self.source = categories, source

    def __len__(self) -> int:
        return len(self.rows)

    def read_record(self, index: int) -> PanopticRecord:
        return self.row_format.read(self.rows[index], index, self.source)


class StreamedPanopticDataset(IterableDataset[PanopticSample]):
    """
    Samples of a `datasets.IterableDataset`, which is read in passes and has no length.

    Iterating gives one pass in stored order; the workers of a `DataLoader` divide the shards among them. Training takes
    its shuffled, resumable order from `batches`.

    Args:
        rows: the stream.
        row_format: which columns hold what.
        categories: the classes.
        source: name for messages.
        shuffle_buffer_size: rows that training draws from at random; encoded rows of this number are held in memory.

    Raises:
        ValueError: the rows lack a column, or there are none.
    """

    def __init__(
        self,
        rows: "datasets.IterableDataset",
        row_format: RowFormat,
        categories: CategoryTable,
        source: str,
        shuffle_buffer_size: int = 1000,
    ):
        require_columns(rows.column_names or list(next(iter(rows), {})), row_format.columns, source)
        self.rows, self.row_format = keep_encoded(rows, row_format.picture_columns), row_format
        self.categories, self.source, self.shuffle_buffer_size = categories, source, shuffle_buffer_size

    def share(self, process_index: int, num_processes: int) -> "StreamedPanopticDataset":
        """The part of process `process_index` when every row goes to exactly one of `num_processes`."""
        from datasets.distributed import split_dataset_by_node

        rows = split_dataset_by_node(self.rows, process_index, num_processes)
        return StreamedPanopticDataset(rows, self.row_format, self.categories, self.source, self.shuffle_buffer_size)

    def __iter__(self) -> Iterator[PanopticSample]:
        for index, row in enumerate(self.rows):  # in a loader's worker, `datasets` gives this worker's shards only
            yield self.read(row, index)

    def read(self, row: Mapping[str, Any], index: int) -> PanopticSample:
        """Decodes one row of the stream; `index` names it in messages."""
        return self.row_format.read(row, index, self.source).to_sample(self.categories)

    def batches(
        self,
        batch_size: int,
        seed: int,
        process_index: int = 0,
        num_processes: int = 1,
        position: dict[str, Any] | None = None,
    ) -> StreamedBatches:
        """An endless order of training batches that starts at `position` (see [`StreamedBatches.position_after`])."""
        return StreamedBatches(
            self.rows, self.shuffle_buffer_size, batch_size, seed, process_index, num_processes, position
        )


def require_columns(available: list[str], needed: tuple[str, ...], source: str) -> None:
    """Raises `ValueError` naming the columns that `source` lacks and those that it has."""
    if missing := [name for name in needed if name not in available]:
        raise ValueError(
            f"{source}: no columns {missing}; it has {sorted(available)}. Name them with `image_column_name`, "
            "`annotation_column_name` and `segments_info_column_name`."
        )


def keep_encoded(rows: Any, picture_columns: Sequence[str]) -> Any:
    """The table with its picture columns as bytes or path, so that skipped rows cost no decoding and errors name rows."""
    import datasets

    for column in picture_columns:
        if rows.features is not None and isinstance(rows.features.get(column), datasets.Image):
            rows = rows.cast_column(column, datasets.Image(decode=False))
    return rows
