"""Reading COCO panoptic data, augmenting photo and map together, and the order and form of training batches."""

import json
import shutil
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from transformers_yoso.data import (
    VOID,
    AugmentedDataset,
    CocoPanopticDataset,
    PanopticCollator,
    PanopticSample,
    SampleKey,
    SampleStream,
    TrainingAugmentation,
)
from transformers_yoso.data.augmentation.cropping import IMAGE_PAD_VALUE
from transformers_yoso.data.sample import drop_crowd_segments, drop_empty_segments, segment_areas


@pytest.fixture
def coco(shared_dir) -> CocoPanopticDataset:
    return CocoPanopticDataset.from_folder(shared_dir / "data" / "coco_panoptic_sample", "val2017")


@pytest.fixture
def facade(shared_dir) -> CocoPanopticDataset:
    return CocoPanopticDataset.from_folder(shared_dir / "data" / "facade", "val")


@pytest.fixture
def small_copy(shared_dir, tmp_path) -> Path:
    """A writable dataset folder with the two COCO photos as split `val`."""
    source = shared_dir / "data" / "coco_panoptic_sample"
    shutil.copytree(source / "val2017", tmp_path / "val")
    shutil.copytree(source / "panoptic_val2017", tmp_path / "panoptic_val")
    shutil.copy(source / "panoptic_val2017.json", tmp_path / "panoptic_val.json")
    for path in tmp_path.rglob("*"):
        path.chmod(0o755)
    return tmp_path


def edit_json(folder: Path, change) -> None:
    file = folder / "panoptic_val.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def painted_sample() -> PanopticSample:
    """A grid of 6 x 4 segments, each in its own flat colour."""
    segment_map = torch.arange(24).view(6, 4).repeat_interleave(40, 0).repeat_interleave(64, 1).int()
    colors = torch.stack([torch.arange(24) * 10, 240 - torch.arange(24) * 10, (torch.arange(24) % 4) * 80]).byte()
    return PanopticSample(
        image=colors[:, segment_map.long()],
        segment_map=segment_map,
        class_labels=torch.arange(24),
        is_crowd=torch.zeros(24, dtype=torch.bool),
        image_id=1,
        file_name="painted",
    )


# --- reader ---------------------------------------------------------------------------------------------------------


def test_segments_have_the_areas_and_labels_of_the_json(coco):
    assert len(coco) == 2
    assert len(coco.categories.id2label) == 133 and len(coco.categories.stuff_label_ids) == 53
    assert coco.categories.id2label[0] == "person" and coco.categories.label_of_category[1] == 0
    for sample, annotation in zip(coco, coco.annotations, strict=True):
        segments = annotation["segments_info"]
        assert segment_areas(sample).tolist() == [segment["area"] for segment in segments]
        expected = [coco.categories.label_of_category[segment["category_id"]] for segment in segments]
        assert sample.class_labels.tolist() == expected
        assert sample.is_crowd.tolist() == [bool(segment["iscrowd"]) for segment in segments]
        assert sample.image.dtype == torch.uint8 and sample.image.shape[-2:] == sample.segment_map.shape


def test_facade_labels_follow_the_json(facade):
    assert [facade.categories.id2label[label] for label in (0, 5, 6, 9)] == [
        "window",
        "traffic-infrastructure",
        "facade",
        "non-building-infrastructure",
    ]
    assert facade.categories.stuff_label_ids == [6, 7, 8, 9]
    sample = facade[0]
    assert sample.image.shape == (3, 512, 512) and sample.segment_map.min() == VOID
    assert sample.num_segments == len(facade.annotations[0]["segments_info"])


def test_listed_segment_without_pixels_stays_but_is_no_target(small_copy):
    def add_segment(content):
        content["annotations"][0]["segments_info"].insert(0, {"id": 5, "category_id": 1, "iscrowd": 0})

    before = CocoPanopticDataset.from_folder(small_copy, "val")[0]
    edit_json(small_copy, add_segment)
    after = CocoPanopticDataset.from_folder(small_copy, "val")[0]
    assert after.num_segments == before.num_segments + 1 and not (after.segment_map == 0).any()
    collate = PanopticCollator([0.5] * 3, [0.5] * 3)
    for key in ("mask_labels", "class_labels"):
        assert torch.equal(collate([before])[key][0], collate([after])[key][0])


def test_missing_files_are_named(small_copy):
    image, png = next((small_copy / "val").iterdir()), next((small_copy / "panoptic_val").iterdir())
    png.rename(png.with_suffix(".bak"))
    with pytest.raises(FileNotFoundError, match=png.name):
        CocoPanopticDataset.from_folder(small_copy, "val")
    png.with_suffix(".bak").rename(png)
    image.unlink()
    with pytest.raises(FileNotFoundError, match=image.name):
        CocoPanopticDataset.from_folder(small_copy, "val")
    with pytest.raises(FileNotFoundError, match=r"panoptic_test\.json"):
        CocoPanopticDataset.from_folder(small_copy, "test")
    (small_copy / "panoptic_val").rename(small_copy / "maps")
    with pytest.raises(FileNotFoundError, match=r"panoptic_val: no such folder.* has: maps, panoptic_val\.json, "):
        CocoPanopticDataset.from_folder(small_copy, "val")


def test_bad_annotations_are_named(small_copy):
    def drop_segment(content):
        content["annotations"][0]["segments_info"].pop()

    edit_json(small_copy, drop_segment)
    dataset = CocoPanopticDataset.from_folder(small_copy, "val")
    with pytest.raises(ValueError, match=rf"{dataset.annotations[0]['file_name']}.*absent from its `segments_info`"):
        dataset[0]

    edit_json(small_copy, lambda content: content["annotations"][1]["segments_info"][0].update(category_id=999))
    with pytest.raises(ValueError, match="category 999"):
        CocoPanopticDataset.from_folder(small_copy, "val")

    edit_json(small_copy, lambda content: content["annotations"][0].pop("segments_info"))
    with pytest.raises(ValueError, match=r"lacks \['segments_info'\]"):
        CocoPanopticDataset.from_folder(small_copy, "val")

    edit_json(small_copy, lambda content: content["annotations"][0].update(segments_info=[]))
    edit_json(small_copy, lambda content: content["annotations"][1]["segments_info"].clear())
    edit_json(small_copy, lambda content: content["images"].clear())
    with pytest.raises(ValueError, match="which `images` does not list"):
        CocoPanopticDataset.from_folder(small_copy, "val")

    edit_json(small_copy, lambda content: content.pop("categories"))
    with pytest.raises(ValueError, match="categories"):
        CocoPanopticDataset.from_folder(small_copy, "val")

    (small_copy / "panoptic_val.json").write_text("{")
    with pytest.raises(ValueError, match="not valid JSON"):
        CocoPanopticDataset.from_folder(small_copy, "val")


def test_bad_files_are_named(small_copy):
    dataset = CocoPanopticDataset.from_folder(small_copy, "val")
    png = small_copy / "panoptic_val" / dataset.annotations[0]["file_name"]
    Image.open(png).crop((0, 0, 100, 50)).save(png)
    with pytest.raises(ValueError, match=rf"{png.name}.*50x100"):
        dataset[0]
    png.write_bytes(png.read_bytes()[:60])
    with pytest.raises(ValueError, match=rf"{png.name}.*cannot be decoded"):
        dataset[0]


def test_sample_of_two_sizes_is_refused():
    with pytest.raises(ValueError, match=r"photo\.jpg.*4x4.*4x5"):
        PanopticSample(
            torch.zeros(3, 4, 4), torch.zeros(4, 5), torch.zeros(1), torch.zeros(1, dtype=torch.bool), 1, "photo.jpg"
        )


# --- transforms -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.4, 1.0, 1.7])
def test_map_stays_on_the_photo(scale):
    sample, size = painted_sample(), 160
    augmentation = TrainingAugmentation(size, (scale, scale))
    seen = set()
    for seed in range(8):
        torch.manual_seed(seed)
        result = augmentation(sample)
        assert result.image.shape == (3, size, size) and result.segment_map.shape == (size, size)
        assert torch.equal(result.segment_map.unique().clamp(min=0).unique(), torch.arange(result.num_segments).int())
        areas = segment_areas(result)
        for segment, label in enumerate(result.class_labels.tolist()):
            if areas[segment] < 300:  # slivers at the crop's edge are a blend of two colours
                continue
            color = sample.image[:, sample.segment_map == label][:, 0]
            inside = result.image[:, result.segment_map == segment].float().median(1).values
            assert (inside - color.float()).abs().max() <= 2
        padding = result.segment_map == VOID
        assert (result.image[:, padding] == IMAGE_PAD_VALUE).all()
        height = round(scale * size * 240 / 256)
        assert padding.any() == (height < size)
        seen.add(tuple(result.image[:, 3, 3].tolist()))
    assert len(seen) > 1


def test_resized_edges_lie_between_the_same_pixels():
    # 2x downscaling of vertical stripes: an edge of the map may not shift against the edge in the photo
    segment_map = (torch.arange(64) // 8 % 2).expand(64, 64).int()
    image = (segment_map * 200).byte().expand(3, 64, 64)
    sample = PanopticSample(image, segment_map, torch.arange(2), torch.zeros(2, dtype=torch.bool), 1, "stripes")
    result = TrainingAugmentation(48, (1.0, 1.0))(sample)
    assert ((result.image[0] > 100) == (result.segment_map == 1)).float().mean() > 0.99


def test_vanished_segments_are_dropped_and_crowd_becomes_void(coco):
    sample = coco[0]
    torch.manual_seed(0)
    result = TrainingAugmentation(64, (4.0, 4.0))(sample)
    assert 0 < result.num_segments < sample.num_segments
    assert (segment_areas(result) > 0).all()

    areas = segment_areas(sample)
    is_crowd = torch.zeros(sample.num_segments, dtype=torch.bool)
    is_crowd[1] = True
    crowded = PanopticSample(sample.image, sample.segment_map, sample.class_labels, is_crowd, 1, "crowded")
    result = drop_crowd_segments(crowded)
    assert segment_areas(result).tolist() == [area for index, area in enumerate(areas.tolist()) if index != 1]
    assert (result.segment_map == VOID).sum() == (sample.segment_map == VOID).sum() + areas[1]


def test_photo_without_segments_passes():
    sample = PanopticSample(
        torch.zeros(3, 30, 20, dtype=torch.uint8),
        torch.full((30, 20), VOID, dtype=torch.int32),
        torch.zeros(0, dtype=torch.int64),
        torch.zeros(0, dtype=torch.bool),
        1,
        "empty",
    )
    result = TrainingAugmentation(32, (0.5, 2.0), color_distortion=True)(drop_empty_segments(sample))
    assert result.num_segments == 0 and (result.segment_map == VOID).all()


def test_color_distortion_leaves_the_map(coco):
    torch.manual_seed(3)
    plain = TrainingAugmentation(128, (1.0, 1.0))(coco[0])
    torch.manual_seed(3)
    distorted = TrainingAugmentation(128, (1.0, 1.0), color_distortion=True)(coco[0])
    assert torch.equal(plain.segment_map, distorted.segment_map)
    assert not torch.equal(plain.image, distorted.image)


def test_senseless_scale_range_is_refused():
    with pytest.raises(ValueError, match="scale_range"):
        TrainingAugmentation(64, (2.0, 0.5))


# --- order and batches ----------------------------------------------------------------------------------------------


def test_every_epoch_is_another_permutation():
    keys = [key for batch in islice(SampleStream(10, 4, seed=3), 5) for key in batch]
    epochs = [[key.index for key in keys if key.epoch == epoch] for epoch in (0, 1)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(10))] * 2 and epochs[0] != epochs[1]
    other_seed = [key for batch in islice(SampleStream(10, 4, seed=4), 5) for key in batch]
    assert keys != other_seed


def test_stream_goes_on_where_it_stopped():
    whole = list(islice(SampleStream(10, 4, seed=3), 9))
    assert list(islice(SampleStream(10, 4, seed=3, start_batch=4), 5)) == whole[4:]


def test_processes_share_the_global_batches_of_one():
    single = list(islice(SampleStream(10, 6, seed=3), 7))
    shares = [list(islice(SampleStream(10, 2, 3, process_index=rank, num_processes=3), 7)) for rank in range(3)]
    assert [a + b + c for a, b, c in zip(*shares, strict=True)] == single


def test_empty_dataset_is_refused():
    with pytest.raises(ValueError, match="empty"):
        SampleStream(0, 4, seed=0)


def test_augmentation_depends_on_seed_epoch_and_index_alone(facade):
    def draw(key, seed=0, before=0):
        torch.manual_seed(before)
        state = torch.get_rng_state()
        sample = AugmentedDataset(facade, TrainingAugmentation(96, (0.5, 2.0)), seed)[key]
        assert torch.equal(torch.get_rng_state(), state)
        return sample.image

    image = draw(SampleKey(0, 5))
    assert torch.equal(image, draw(SampleKey(0, 5), before=9))
    assert not torch.equal(image, draw(SampleKey(1, 5)))
    assert not torch.equal(image, draw(SampleKey(0, 5), seed=1))


def test_batch_is_normalised_and_padded(facade):
    small = TrainingAugmentation(64)(facade[0])
    large = TrainingAugmentation(96)(facade[1])
    mean, std = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]
    batch = PanopticCollator(mean, std)([small, large])
    assert batch["pixel_values"].shape == (2, 3, 96, 96) and batch["pixel_values"].dtype == torch.float32
    expected = (small.image / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(batch["pixel_values"][0, :, :64, :64], expected)
    assert batch["pixel_values"][0, :, 64:].abs().sum() == 0
    assert batch["pixel_mask"].sum((1, 2)).tolist() == [64 * 64, 96 * 96]
    assert torch.equal(batch["mask_labels"][0][:64, :64], small.segment_map)
    assert (batch["mask_labels"][0][64:] == VOID).all()
    assert [labels.tolist() for labels in batch["class_labels"]] == [
        small.class_labels.tolist(),
        large.class_labels.tolist(),
    ]
    assert Counter(batch["file_names"]) == Counter([small.file_name, large.file_name])


def test_ids_above_two_bytes_are_read(tmp_path):
    ids = np.zeros((4, 6), dtype=np.int64)
    ids[:, 2:] = 3 + 256 * 7 + 65536 * 200
    (tmp_path / "val").mkdir()
    (tmp_path / "panoptic_val").mkdir()
    Image.new("L", (6, 4)).save(tmp_path / "val" / "grey.png")
    rgb = np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1).astype(np.uint8)
    Image.fromarray(rgb).save(tmp_path / "panoptic_val" / "grey.png")
    content = {
        "images": [{"id": "a", "file_name": "grey.png"}],
        "annotations": [
            {
                "image_id": "a",
                "file_name": "grey.png",
                "segments_info": [{"id": int(ids.max()), "category_id": 7, "iscrowd": 1}],
            }
        ],
        "categories": [{"id": 3, "name": "sky", "isthing": 0}, {"id": 7, "name": "bird", "isthing": 1}],
    }
    (tmp_path / "panoptic_val.json").write_text(json.dumps(content))
    (sample,) = CocoPanopticDataset.from_folder(tmp_path, "val")
    assert sample.segment_map.tolist() == [[-1, -1, 0, 0, 0, 0]] * 4
    assert sample.class_labels.tolist() == [1] and sample.is_crowd.tolist() == [True]
    assert sample.image.shape == (3, 4, 6)


def test_photos_with_16_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    grey = np.arange(256, dtype=np.uint16).reshape(16, 16)
    Image.fromarray(grey * 256).save(tmp_path / "deep.png")
    Image.fromarray(np.zeros((16, 16, 3), dtype=np.uint8)).save(tmp_path / "map.png")
    content = {
        "images": [{"id": 1, "file_name": "deep.png"}],
        "annotations": [{"image_id": 1, "file_name": "map.png", "segments_info": []}],
        "categories": [{"id": 1, "name": "window", "isthing": 1}],
    }
    (tmp_path / "panoptic.json").write_text(json.dumps(content))
    sample = CocoPanopticDataset(tmp_path, tmp_path, tmp_path / "panoptic.json")[0]
    assert torch.equal(sample.image[0], torch.from_numpy(grey.astype(np.uint8)))
