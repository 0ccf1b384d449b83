"""Streams: seeded order, shares of processes and workers, and resuming at the exact row."""

import json
from itertools import islice

import datasets
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from panoptic_folders import coco_categories, copy_photos, segments_info_table
from transformers_yoso.data import (
    AugmentedDataset,
    CocoPanopticDataset,
    PanopticCollator,
    StreamedBatches,
    TrainingAugmentation,
    open_dataset,
)
from transformers_yoso.data.parquet_shards import write_parquet_shards

NUM_ROWS = 23


@pytest.fixture
def numbers() -> datasets.IterableDataset:
    """A stream of numbered rows in four shards."""
    return datasets.Dataset.from_dict({"number": list(range(NUM_ROWS))}).to_iterable_dataset(num_shards=4)


def epochs_of(batches: StreamedBatches, num_batches: int) -> dict[int, list[int]]:
    epochs: dict[int, list[int]] = {}
    for batch in islice(batches, num_batches):
        for key in batch:
            epochs.setdefault(key.epoch, []).append(key.row["number"])
    return epochs


def numbers_of(batches: StreamedBatches, num_batches: int) -> list[tuple[int, int, list[int]]]:
    return [
        (batch[0].epoch, batch[0].index, [key.row["number"] for key in batch])
        for batch in islice(batches, num_batches)
    ]


def test_every_epoch_holds_every_row_once_in_another_order(numbers):
    epochs = epochs_of(StreamedBatches(numbers, 8, batch_size=4, seed=3), 18)
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(NUM_ROWS))
    assert epochs[0] != epochs[1] and epochs[0] != sorted(epochs[0])
    assert epochs == epochs_of(StreamedBatches(numbers, 8, batch_size=4, seed=3), 18)
    assert epochs[0] != epochs_of(StreamedBatches(numbers, 8, batch_size=4, seed=4), 6)[0]


@pytest.mark.parametrize("num_processes", [2, 3])  # four shards: divided by shards, and by rows
def test_processes_share_every_epoch(numbers, num_processes):
    shares = [
        StreamedBatches(numbers, 8, 2, seed=3, process_index=rank, num_processes=num_processes)
        for rank in range(num_processes)
    ]
    rows = [key for share in shares for batch in islice(share, 8) for key in batch if key.epoch == 0]
    assert sorted(key.row["number"] for key in rows) == list(range(NUM_ROWS))
    assert len({key.index for key in rows}) == NUM_ROWS  # the index seeds the augmentation


@pytest.mark.parametrize("consumed", [0, 1, 4, 6, 11])
def test_stream_goes_on_exactly_where_it_stopped(numbers, consumed):
    options = {"shuffle_buffer_size": 8, "batch_size": 4, "seed": 3, "process_index": 1, "num_processes": 2}
    whole = StreamedBatches(numbers, **options)
    batches = numbers_of(whole, 12)  # a loader has run ahead of what training consumed
    position = json.loads(json.dumps(whole.position_after(consumed)))
    resumed = StreamedBatches(numbers, **options, position=position)
    assert numbers_of(resumed, 12 - consumed) == batches[consumed:]
    assert resumed.position_after(12) == whole.position_after(12)


def test_unknown_positions_and_empty_streams_are_refused(numbers):
    batches = StreamedBatches(numbers, 8, 4, seed=3)
    next(iter(batches))
    with pytest.raises(ValueError, match="No position is known for 5 batches"):
        batches.position_after(5)
    with pytest.raises(ValueError, match="no rows for process 0 of 1"):
        next(iter(StreamedBatches(numbers.filter(lambda row: False), 8, 4, seed=3)))


@pytest.fixture
def photos(shared_dir, tmp_path):
    """Six facade photos as a stream of parquet shards."""
    facade = CocoPanopticDataset.from_folder(shared_dir / "data" / "facade", "val")
    folder = tmp_path / "shards"
    folder.mkdir()
    table = segments_info_table(facade, 6)
    for shard in range(3):
        table.select(range(2 * shard, 2 * shard + 2)).to_parquet(folder / f"train-{shard:05d}-of-00003.parquet")
    (folder / "categories.json").write_text(json.dumps(coco_categories(facade)))
    return open_dataset(dataset_dir=folder, split="train", streaming=True, shuffle_buffer_size=4), facade


def test_training_batches_depend_neither_on_workers_nor_on_a_restart(photos):
    stream, _ = photos

    def loader(batches: StreamedBatches, num_workers: int) -> DataLoader:
        return DataLoader(
            AugmentedDataset(stream, TrainingAugmentation(64), seed=5),
            batch_sampler=batches,
            collate_fn=PanopticCollator([0.5] * 3, [0.5] * 3),
            num_workers=num_workers,
        )

    batches = stream.batches(2, seed=5)
    whole = list(islice(loader(batches, 0), 5))
    resumed = stream.batches(2, seed=5, position=batches.position_after(2))
    assert len({name for batch in whole[:3] for name in batch["file_names"]}) == 6
    for expected, batch in zip(whole[2:], islice(loader(resumed, 2), 3), strict=True):
        assert batch["file_names"] == expected["file_names"]
        assert torch.equal(batch["pixel_values"], expected["pixel_values"])
        assert all(map(torch.equal, batch["mask_labels"], expected["mask_labels"]))


def test_one_pass_gives_each_photo_to_one_worker_and_process(photos):
    stream, facade = photos
    samples = list(DataLoader(stream, batch_size=None, num_workers=2))
    shares = [sample for rank in range(2) for sample in stream.share(rank, 2)]
    for found in (samples, shares):
        assert sorted(sample.image_id for sample in found) == [item["image_id"] for item in facade.annotations[:6]]
    by_id = {sample.image_id: sample for sample in samples}
    for index in (0, 5):
        expected = facade[index]
        assert np.array_equal(by_id[expected.image_id].segment_map, expected.segment_map)


def test_shards_of_a_coco_folder_give_its_samples(photos, tmp_path):
    source = photos[1]
    subset = CocoPanopticDataset.from_folder(copy_photos(source, 5, tmp_path / "coco"), "val")
    shards = tmp_path / "shards"
    files = write_parquet_shards(subset, shards, "train", shard_size=2)
    assert [file.name for file in files] == [f"train-0000{k}-of-00003.parquet" for k in range(3)]
    streamed = open_dataset(dataset_dir=shards, split="train", streaming=True)
    assert streamed.categories == source.categories and streamed.rows.num_shards == 3
    for sample, expected in zip(streamed, (source[k] for k in range(5)), strict=True):
        assert sample.image_id == expected.image_id and torch.equal(sample.image, expected.image)
        assert torch.equal(sample.segment_map, expected.segment_map)
        assert torch.equal(sample.class_labels, expected.class_labels)
    with pytest.raises(ValueError, match=r"other shards of 'train'.*train-00000-of-00003"):
        write_parquet_shards(subset, shards, "train", shard_size=5)
