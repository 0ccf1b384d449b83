"""An endless, seeded order of training samples whose place is one number, so that a run resumes exactly."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from .sample import PanopticSample


class SampleKey(NamedTuple):
    """
    Names one draw: `index` in the dataset and the `epoch`, which gives another augmentation each time.

    A streamed dataset cannot look a sample up by its index; there the key carries the encoded `row`.
    """

    epoch: int
    index: int
    row: Mapping[str, Any] | None = None


class SampleStream(Sampler[list[SampleKey]]):
    """
    Endless batches; every epoch is a permutation of the dataset drawn from `(seed, epoch)`, epochs follow without a gap.

    Of each global batch of `batch_size * num_processes` samples a process takes its share, so the samples of a step do
    not depend on the number of processes.

    Args:
        num_samples: length of the dataset.
        batch_size: samples per process and step.
        seed: of the permutations.
        start_batch: number of batches already consumed.
        process_index: rank of this process.
        num_processes: number of processes.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        seed: int,
        start_batch: int = 0,
        process_index: int = 0,
        num_processes: int = 1,
    ):
        if num_samples < 1:
            raise ValueError("The training set is empty.")
        self.num_samples, self.batch_size, self.seed = num_samples, batch_size, seed
        self.start_batch, self.process_index, self.num_processes = start_batch, process_index, num_processes

    def __iter__(self) -> Iterator[list[SampleKey]]:
        batch, permutations = self.start_batch, {}
        while True:
            first = (batch * self.num_processes + self.process_index) * self.batch_size
            keys = []
            for position in range(first, first + self.batch_size):
                epoch, offset = divmod(position, self.num_samples)
                if epoch not in permutations:
                    permutations = {epoch: np.random.default_rng([self.seed, epoch]).permutation(self.num_samples)}
                keys.append(SampleKey(epoch, int(permutations[epoch][offset])))
            yield keys
            batch += 1

    def position_after(self, num_batches: int) -> dict[str, Any]:
        """Where to resume when `num_batches` batches have been consumed since the beginning; JSON-serialisable."""
        return {"batch": num_batches}


class AugmentedDataset(Dataset):
    """
    Applies a random transform whose draws depend only on the seed, the epoch and the sample's index.

    The result is the same in whichever worker and however often it is made; the caller's generator stays untouched.

    Args:
        samples: gives samples by index, or, like `StreamedPanopticDataset`, from the row that a key carries.
        transform: draws from torch's global generator.
        seed: of the draws.
    """

    def __init__(self, samples: Any, transform: Callable[[PanopticSample], PanopticSample], seed: int):
        self.samples, self.transform, self.seed = samples, transform, seed

    def __getitem__(self, key: SampleKey) -> PanopticSample:
        sample = self.samples[key.index] if key.row is None else self.samples.read(key.row, key.index)
        entropy = np.random.SeedSequence([self.seed, key.epoch, key.index]).generate_state(1, np.uint64)[0]
        with torch.random.fork_rng(devices=[]):
            torch.random.default_generator.manual_seed(int(entropy >> np.uint64(1)))
            return self.transform(sample)
