"""The crops and scales of the recipes: sizes, outlines on objects, the limit on a single category."""

from collections import Counter

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as F

from transformers_yoso.data import VOID, CocoPanopticDataset, PanopticSample, TrainingAugmentation
from transformers_yoso.data.augmentation.color import ColorDistortion
from transformers_yoso.data.augmentation.cropping import IMAGE_PAD_VALUE
from transformers_yoso.data.augmentation.resizing import ResizeShortestEdge
from transformers_yoso.data.sample import segment_areas


@pytest.fixture(scope="module")
def coco(shared_dir) -> CocoPanopticDataset:
    return CocoPanopticDataset.from_folder(shared_dir / "data" / "coco_panoptic_sample", "val2017")


def outlined(sample: PanopticSample) -> PanopticSample:
    """The sample with a photo in which every segment has a flat colour of its own, so that outlines are edges."""
    colors = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (sample.num_segments + 1, 3), dtype=np.uint8))
    colors[-1] = IMAGE_PAD_VALUE
    image = colors[sample.segment_map].permute(2, 0, 1)
    no_crowd = torch.zeros_like(sample.is_crowd)
    return PanopticSample(image, sample.segment_map, torch.arange(sample.num_segments), no_crowd, 1, "flat")


RECIPES = {
    "coco": {"size": 256, "scale_range": (0.1, 2.0)},
    "cityscapes": {"size": (128, 256), "shortest_edges": list(range(128, 513, 26)), "longest_edge": 1024},
    "ade20k": {"size": 160, "shortest_edges": list(range(80, 321, 16)), "longest_edge": 640},
    "mapillary": {"size": 256, "shortest_edges": list(range(256, 1025, 51)), "longest_edge": 2048},
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_outlines_sit_on_the_objects_of_a_real_photo(coco, recipe):
    sample = outlined(coco[0])
    colors = [sample.image[:, sample.segment_map == label][:, 0] for label in range(sample.num_segments)]
    colors = torch.stack([*colors, torch.full((3,), IMAGE_PAD_VALUE, dtype=torch.uint8)]).int()
    augmentation, size = TrainingAugmentation(**RECIPES[recipe]), RECIPES[recipe]["size"]
    seen = set()
    for seed in range(6):
        torch.manual_seed(seed)
        result = augmentation(sample)
        assert result.image.shape[1:] == result.segment_map.shape == ((size, size) if isinstance(size, int) else size)
        labels = torch.cat([result.class_labels, torch.tensor([VOID])])[result.segment_map]
        # two pixels off the outlines, where nothing is blended, photo and map must agree
        windows = torch.nn.functional.unfold(labels[None, None].float(), 5).unflatten(-1, (labels.shape[0] - 4, -1))[0]
        inside = windows.amin(0) == windows.amax(0)
        difference = (colors[labels].permute(2, 0, 1) - result.image.int()).abs().amax(0)[2:-2, 2:-2]
        assert (difference[inside] <= 2).float().mean() > 0.99
        seen.add((result.num_segments, int(inside.sum())))
    assert len(seen) > 3


def test_shortest_edge_is_chosen_among_the_sizes_and_capped():
    resize = ResizeShortestEdge([40, 60, 100], longest_edge=150)
    sizes = Counter()
    for seed in range(60):
        torch.manual_seed(seed)
        sizes[tuple(resize(F.to_image(np.zeros((50, 100, 3), dtype=np.uint8))).shape[-2:])] += 1
    assert set(sizes) == {(40, 80), (60, 120), (75, 150)} and min(sizes.values()) > 8


def crowded_by_one_class() -> PanopticSample:
    """A photo of one class but for a small corner of another."""
    segment_map = torch.zeros(100, 100, dtype=torch.int32)
    segment_map[:, 50:] = 1  # two segments, one class
    segment_map[:30, :30] = 2
    return PanopticSample(
        torch.zeros(3, 100, 100, dtype=torch.uint8),
        segment_map,
        torch.tensor([4, 4, 9]),
        torch.zeros(3, dtype=torch.bool),
        1,
        "corner",
    )


def test_category_limit_prefers_mixed_crops():
    def share_of_mixed(limit: float) -> float:
        augmentation = TrainingAugmentation(
            40, shortest_edges=[100], single_category_max_area=limit, horizontal_flip=False
        )
        mixed = 0
        for seed in range(40):
            torch.manual_seed(seed)
            result = augmentation(crowded_by_one_class())
            areas = Counter()
            for label, area in zip(result.class_labels.tolist(), segment_areas(result).tolist(), strict=True):
                areas[label] += area
            mixed += max(areas.values()) / areas.total() <= 0.75
        return mixed / 40

    assert share_of_mixed(0.75) > 2 * share_of_mixed(1.0) > 0


def test_category_limit_gives_up_on_photos_of_one_category():
    sample = crowded_by_one_class()
    sample = PanopticSample(sample.image, sample.segment_map, torch.tensor([4, 4, 4]), sample.is_crowd, 1, "one class")
    result = TrainingAugmentation(40, shortest_edges=[100], single_category_max_area=0.5)(sample)
    assert result.segment_map.shape == (40, 40) and result.num_segments >= 1


def test_photos_smaller_than_the_crop_are_padded_to_height_and_width():
    result = TrainingAugmentation((120, 200), shortest_edges=[100])(crowded_by_one_class())
    assert result.image.shape == (3, 120, 200)
    assert (result.segment_map[100:] == VOID).all() and (result.segment_map[:, 100:] == VOID).all()
    assert (result.image[:, 100:] == IMAGE_PAD_VALUE).all() and (result.segment_map[:100, :100] != VOID).all()


def test_flip_can_be_switched_off():
    sample = crowded_by_one_class()
    augmentation = TrainingAugmentation(100, (1.0, 1.0), horizontal_flip=False)
    assert all(torch.equal(augmentation(sample).segment_map, sample.segment_map) for _ in range(8))
    flipping = TrainingAugmentation(100, (1.0, 1.0))
    torch.manual_seed(0)
    corners = {int(flipping(sample).class_labels[int(flipping(sample).segment_map[0, 0])]) for _ in range(16)}
    assert corners == {4, 9}


def test_colour_changes_stay_in_their_range(coco):
    image, distort = F.to_image(coco[0].image), ColorDistortion()
    values = []
    for seed in range(12):
        torch.manual_seed(seed)
        values.append(distort(image).float().mean())
    spread = torch.stack(values)
    assert spread.std() > 1 and (spread - image.float().mean()).abs().max() < 100
    grey = torch.arange(256, dtype=torch.uint8).expand(3, 1, 256)
    for seed in range(12):
        torch.manual_seed(seed)
        result = distort(F.to_image(grey)).int()
        assert (result.diff(dim=-1) >= 0).all()  # brightness and contrast keep the order of greys
        assert (result.amax(0) - result.amin(0)).max() <= 1  # grey has no hue and no saturation to change


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 64, "scale_range": (1.0, 2.0), "shortest_edges": [64]}, "not both"),
        ({"size": 64, "longest_edge": 100}, "shortest_edges"),
        ({"size": 64, "shortest_edges": [64, 128], "longest_edge": 32}, "longest_edge"),
        ({"size": 64, "single_category_max_area": 0.0}, "single_category_max_area"),
        ({"size": (64, 64, 3)}, "size"),
        ({"size": 0}, "size"),
    ],
)
def test_senseless_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        TrainingAugmentation(**arguments)
