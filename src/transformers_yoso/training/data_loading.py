"""From arguments to datasets, augmentation and endless batches whose place in the data can be saved."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader, Dataset

from ..data import AugmentedDataset, PanopticCollator, TrainingAugmentation, open_dataset
from .arguments import DataArguments


def open_splits(data: DataArguments) -> tuple[Dataset, Dataset]:
    """
    Opens the training and the validation split.

    Raises:
        ValueError, FileNotFoundError: a split cannot be opened, or both do not have the same categories.
    """
    splits = [
        open_dataset(
            data.dataset_name,
            data.dataset_config_name,
            dataset_dir=data.dataset_dir,
            split=split,
            annotation_format=data.annotation_format,
            categories_file=data.categories_file,
            stuff_category_ids=data.stuff_category_ids,
            image_column_name=data.image_column_name,
            annotation_column_name=data.annotation_column_name,
            segments_info_column_name=data.segments_info_column_name,
            do_reduce_labels=data.do_reduce_labels,
            streaming=data.streaming,
            shuffle_buffer_size=data.shuffle_buffer_size,
        )
        for split in (data.train_split, data.validation_split)
    ]
    training, validation = splits
    if training.categories != validation.categories:
        raise ValueError(
            f"{training.source} ({data.train_split}) and {validation.source} ({data.validation_split}) have different "
            "categories; they must agree."
        )
    return training, validation


def build_augmentation(data: DataArguments) -> TrainingAugmentation:
    """The augmentation that the arguments describe."""
    return TrainingAugmentation(
        data.image_size[0] if len(data.image_size) == 1 else tuple(data.image_size),
        None if data.scale_range is None else tuple(data.scale_range),
        data.color_distortion,
        shortest_edges=data.shortest_edges,
        longest_edge=data.longest_edge,
        single_category_max_area=data.single_category_max_area,
        horizontal_flip=data.horizontal_flip,
    )


class TrainingBatches:
    """
    Endless batches of a process, with the seeds of their loss points.

    A seed belongs to a photo's place in the run, so neither batches nor points depend on how many processes share a
    global batch.

    Args:
        dataset: what `open_dataset` gives.
        augmentation: of each sample.
        image_processor: gives mean and standard deviation.
        batch_size: photos per process and pass.
        seed: of order, augmentation and points.
        num_workers: of the loader.
        accelerator: gives device and processes.
        position: from `position_after`, None at the start.
    """

    def __init__(
        self,
        dataset: Any,
        augmentation: TrainingAugmentation,
        image_processor: Any,
        batch_size: int,
        seed: int,
        num_workers: int,
        accelerator: Accelerator,
        position: dict[str, int] | None = None,
    ):
        self.batch_size, self.seed, self.accelerator = batch_size, seed, accelerator
        self.first_batch = 0 if position is None else position["batch"]
        self.sampler = dataset.batches(
            batch_size,
            seed,
            process_index=accelerator.process_index,
            num_processes=accelerator.num_processes,
            position=position,
        )
        self.loader = DataLoader(
            AugmentedDataset(dataset, augmentation, seed),
            batch_sampler=self.sampler,
            collate_fn=PanopticCollator(image_processor.image_mean, image_processor.image_std),
            num_workers=num_workers,
            pin_memory=accelerator.device.type == "cuda",
            generator=torch.Generator(),  # a loader otherwise draws from the global generator, once per start
        )

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Batches of `PanopticCollator` with `point_seeds`, one int an image."""
        for number, batch in enumerate(self.loader, self.first_batch):
            yield {**batch, "point_seeds": self._point_seeds(number)}

    def position_after(self, num_batches: int) -> dict[str, int]:
        """Where this process stands in the data after so many batches since the start of the run."""
        return self.sampler.position_after(num_batches)

    def _point_seeds(self, batch: int) -> list[int]:
        first = (batch * self.accelerator.num_processes + self.accelerator.process_index) * self.batch_size
        return [
            int(np.random.SeedSequence([self.seed, place]).generate_state(1, np.uint64)[0] >> np.uint64(1))
            for place in range(first, first + self.batch_size)
        ]
