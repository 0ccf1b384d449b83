"""What all map-style readers share."""

from abc import abstractmethod
from typing import Any

from torch.utils.data import Dataset

from ..categories import CategoryTable
from ..sample import PanopticSample
from ..sample_stream import SampleStream
from .records import PanopticRecord


class PanopticDataset(Dataset[PanopticSample]):
    """
    Panoptic samples by index.

    Attributes:
        categories: the classes.
        source: annotation file or dataset name, for messages.
    """

    categories: CategoryTable
    source: str

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read_record(self, index: int) -> PanopticRecord:
        """Decodes photo and map; raises `ValueError` or `FileNotFoundError` naming the file or row."""

    def __getitem__(self, index: int) -> PanopticSample:
        """Decodes sample `index`; raises `ValueError` naming the file or row that cannot be read or does not fit."""
        return self.read_record(index).to_sample(self.categories)

    def annotation_problems(self) -> list[str]:
        """Annotations that belong to no sample and why, one sentence each; none unless the reader can tell."""
        return []

    def batches(
        self,
        batch_size: int,
        seed: int,
        process_index: int = 0,
        num_processes: int = 1,
        position: dict[str, Any] | None = None,
    ) -> SampleStream:
        """An endless order of training batches that starts at `position` (see [`SampleStream.position_after`])."""
        start_batch = 0 if position is None else position["batch"]
        return SampleStream(len(self), batch_size, seed, start_batch, process_index, num_processes)
