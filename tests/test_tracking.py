"""Ids of segments from frame to frame."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from transformers_yoso import YosoImageProcessor  # noqa: F401  (imports the package before its parts)
from transformers_yoso.inference.prediction import Prediction, Regions, Segment
from transformers_yoso.video import SegmentTracker
from transformers_yoso.video.tracking import pairwise_iou

WALL, WINDOW, DOOR = 0, 1, 2
NAMES = {WALL: "wall", WINDOW: "window", DOOR: "door"}


def prediction_of(ids: np.ndarray, labels: dict[int, int]) -> Prediction:
    """A prediction with the ids of a map as segments; walls are stuff."""
    regions = Regions(ids.astype(np.int32), list(labels))
    segments = [
        Segment(segment_id, label, NAMES[label], 0.9, label == WALL, 0, regions)
        for segment_id, label in labels.items()
    ]
    pixels = torch.zeros(3, *ids.shape, dtype=torch.uint8)
    return Prediction(regions.map, segments, NAMES, [WALL], "panoptic", pixels)


def scene(shift: int, order: tuple[int, ...] = (1, 2, 3)) -> Prediction:
    """A wall with two windows and a door, moved right by `shift` pixels; `order` permutes their ids."""
    ids = np.full((60, 200), 9)
    for segment_id, left in zip(order, (10, 60, 110), strict=True):
        ids[20:40, left + shift : left + shift + 30] = segment_id
    labels = {order[0]: WINDOW, order[1]: WINDOW, order[2]: DOOR, 9: WALL}
    return prediction_of(ids, dict(sorted(labels.items())))


def ids_at(prediction: Prediction, shift: int) -> list[int]:
    """The ids at the places of the three things and the wall."""
    return [int(prediction.map[30, left + shift + 15]) for left in (10, 60, 110)] + [int(prediction.map[5, 5])]


def test_ids_and_shades_stay_with_shifting_segments_whatever_order_they_come_in() -> None:
    tracker = SegmentTracker()
    orders = [(1, 2, 3), (3, 1, 2), (2, 3, 1), (1, 3, 2), (3, 2, 1)]
    tracked = [tracker.update(scene(4 * k, order)) for k, order in enumerate(orders)]
    ids = [ids_at(prediction, 4 * k) for k, prediction in enumerate(tracked)]
    assert len(set(ids[0])) == 4
    assert all(row == ids[0] for row in ids)
    instances = [{segment.id: segment.instance for segment in prediction.segments} for prediction in tracked]
    assert all(numbers == instances[0] for numbers in instances)
    colors = [np.asarray(p.draw(alpha=1, draw_labels=False))[30, 25 + 4 * k] for k, p in enumerate(tracked)]
    assert (np.array(colors) == colors[0]).all()


def test_the_segments_themselves_are_unchanged() -> None:
    before = scene(0, (3, 1, 2))
    after = SegmentTracker().update(before)
    assert [s.label_id for s in after.segments] == [s.label_id for s in before.segments]
    for old, new in zip(before.segments, after.segments, strict=True):
        assert (old.mask == new.mask).all() and old.area == new.area and old.box == new.box


def test_a_new_segment_gets_an_id_that_was_never_used() -> None:
    tracker = SegmentTracker()
    ids = np.zeros((40, 200), dtype=int)
    used: list[int] = []
    for k in range(6):
        ids[:] = 0
        ids[10:30, 30 * k : 30 * k + 20] = 1
        used += [segment.id for segment in tracker.update(prediction_of(ids.copy(), {1: WINDOW})).segments]
    assert len(set(used)) == 6
    ids[:] = 0
    tracker.update(prediction_of(ids.copy(), {}))
    ids[10:30, :20] = 1
    [again] = tracker.update(prediction_of(ids.copy(), {1: WINDOW})).segments
    assert again.id not in used


def test_a_thing_never_takes_the_id_of_another_class() -> None:
    tracker = SegmentTracker()
    ids = np.zeros((40, 60), dtype=int)
    ids[10:30, 10:50] = 1
    [window] = tracker.update(prediction_of(ids, {1: WINDOW})).segments
    [door] = tracker.update(prediction_of(ids, {1: DOOR})).segments
    assert window.id != door.id


def test_stuff_keeps_its_id_even_after_it_was_gone() -> None:
    tracker = SegmentTracker()
    wall = np.ones((20, 30), dtype=int)
    [first] = tracker.update(prediction_of(wall, {1: WALL})).segments
    tracker.update(prediction_of(0 * wall, {}))
    wall[:, 10:] = 0
    [second] = tracker.update(prediction_of(wall, {1: WALL})).segments
    assert first.id == second.id and first.instance == second.instance


def test_the_matching_is_the_best_of_all_not_the_first_that_fits() -> None:
    """A long segment splits in two: the larger part, listed second, keeps the id."""
    whole, split = np.zeros((10, 100), dtype=int), np.zeros((10, 100), dtype=int)
    whole[:, 0:90] = 1
    split[:, 0:35], split[:, 35:90] = 1, 2
    tracker = SegmentTracker()
    [before] = tracker.update(prediction_of(whole, {1: WINDOW})).segments
    small, large = tracker.update(prediction_of(split, {1: WINDOW, 2: WINDOW})).segments
    assert large.id == before.id and small.id != before.id


def test_a_frame_of_another_size_starts_anew_and_the_threshold_is_checked() -> None:
    tracker = SegmentTracker()
    [before] = tracker.update(prediction_of(np.ones((20, 30), dtype=int), {1: WINDOW})).segments
    [after] = tracker.update(prediction_of(np.ones((30, 20), dtype=int), {1: WINDOW})).segments
    assert before.id != after.id
    with pytest.raises(ValueError, match="min_iou"):
        SegmentTracker(min_iou=0)


def test_pairwise_iou_is_that_of_the_masks() -> None:
    random = np.random.default_rng(0)
    first, second = random.integers(0, 4, (20, 30)), random.integers(0, 6, (20, 30))
    iou = pairwise_iou(first, second, (3, 5))
    for i in range(3):
        for k in range(5):
            a, b = first == i + 1, second == k + 1
            assert iou[i, k] == pytest.approx((a & b).sum() / (a | b).sum())


def test_ids_stay_on_a_real_photo_that_is_shifted(shared_dir: Path) -> None:
    """Ground truth of a street with many windows, seen through a window that moves by 2 pixels a frame."""
    folder = shared_dir / "data" / "facade" / "panoptic_val"
    truth = max(folder.glob("*.png"), key=lambda path: path.stat().st_size)
    rgb = np.asarray(Image.open(truth).convert("RGB")).astype(np.int64) @ [1, 256, 65536]
    tracker, random, names = SegmentTracker(), np.random.default_rng(0), {}
    kept, changed = 0, 0
    for k in range(8):
        view = rgb[:, 2 * k : 2 * k + 400]
        present = [int(value) for value in np.unique(view) if value]
        shuffled = {value: int(new) + 1 for value, new in zip(present, random.permutation(len(present)), strict=True)}
        ids = np.zeros(view.shape, dtype=int)
        for value, new in shuffled.items():
            ids[view == value] = new
        tracked = tracker.update(prediction_of(ids, dict.fromkeys(sorted(shuffled.values()), WINDOW)))
        for value in present:
            [name] = np.unique(tracked.map[view == value]).tolist()
            kept += names.get(value) == name
            changed += value in names and names[value] != name
            names[value] = name
    assert kept > 50 and changed <= 0.03 * kept
