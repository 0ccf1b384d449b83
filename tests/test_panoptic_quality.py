"""Panoptic quality against numbers computed by hand and against a direct reading of its definition."""

import numpy as np
import pytest

from transformers_yoso.data import CocoPanopticDataset
from transformers_yoso.metrics import PanopticQuality

WINDOW, DOOR, SKY, CAR = range(4)
CROWD = 3


def toy() -> tuple[np.ndarray, list[dict], np.ndarray, list[int], list[bool]]:
    """Six segments (one of them crowd) and four void pixels in a row of 40 pixels, and seven predictions."""
    target = np.repeat([0, 1, 2, CROWD, 4, 5, -1], [8, 6, 10, 6, 4, 2, 4])
    prediction = np.zeros(40, dtype=np.int64)
    pixels = {
        10: [*range(6), 36, 37],  # 6 of 8 pixels of target 0, 2 on void: IoU 6 / 8
        11: [*range(6, 11)],  # 3 of 6 pixels of target 1: IoU 3 / 8
        12: [*range(11, 21)],  # 7 of 10 pixels of target 2: IoU 7 / 13
        13: [*range(24, 28), 21],  # 4 of its 5 pixels on crowd of its class
        14: [*range(28, 33)],  # 2 pixels on crowd of another class; target 4: IoU 3 / 6, not above 0.5
        15: [34, 38, 39],  # 2 of its 3 pixels on void; target 5: IoU 1 / 2
        16: [22, 23],  # half-hearted second sky
    }
    for segment_id, where in pixels.items():
        prediction[where] = segment_id
    labels = {10: WINDOW, 11: WINDOW, 12: SKY, 13: WINDOW, 14: DOOR, 15: DOOR, 16: SKY}
    segments_info = [{"id": segment_id, "label_id": label} for segment_id, label in labels.items()]
    target_labels = [WINDOW, WINDOW, SKY, WINDOW, DOOR, DOOR]
    is_crowd = [index == CROWD for index in range(6)]
    return prediction.reshape(4, 10), segments_info, target.reshape(4, 10), target_labels, is_crowd


def test_toy_equals_the_hand_computation():
    quality = PanopticQuality(num_labels=4, stuff_label_ids=[SKY])
    quality.update(*toy())
    result = quality.compute()
    counts = {
        label: [scores[name] for name in ("true_positives", "false_positives", "false_negatives")]
        for label, scores in result["per_class"].items()
    }
    assert counts == {WINDOW: [1, 1, 1], DOOR: [0, 1, 2], SKY: [1, 1, 0], CAR: [0, 0, 0]}
    window, sky = 0.75 / 2, (7 / 13) / 1.5
    assert result["per_class"][WINDOW]["pq"] == pytest.approx(window)
    assert result["per_class"][WINDOW]["sq"] == pytest.approx(0.75)
    assert result["per_class"][WINDOW]["rq"] == pytest.approx(0.5)
    assert result["things"] == pytest.approx({"pq": window / 2, "sq": 0.375, "rq": 0.25, "num_classes": 2})
    assert result["stuff"] == pytest.approx({"pq": sky, "sq": 7 / 13, "rq": 1 / 1.5, "num_classes": 1})
    assert result["all"]["pq"] == pytest.approx((window + sky) / 3)
    assert result["all"]["num_classes"] == 3


def reference_counts(prediction, segments_info, target, target_labels, is_crowd, num_labels):
    """TP, FP, FN and the sum of IoU per class, from sets of pixels, pair by pair."""

    def pixels(array, value):
        return set(np.flatnonzero(array == value).tolist())

    predictions = [(info["label_id"], pixels(prediction, info["id"])) for info in segments_info]
    targets = [(label, pixels(target, index), is_crowd[index]) for index, label in enumerate(target_labels)]
    void = pixels((target < 0) | (target >= len(target_labels)), True)
    counts = np.zeros((4, num_labels))
    matched = set()
    for label, region in predictions:
        hit = False
        for index, (target_label, target_region, crowd) in enumerate(targets):
            union = (region - void) | target_region
            if not crowd and label == target_label and len(region & target_region) > 0.5 * len(union):
                counts[0, label] += len(region & target_region) / len(union)
                counts[1, label] += 1
                matched.add(index)
                hit = True
        crowds = [target_region for target_label, target_region, crowd in targets if crowd and target_label == label]
        excused = void | (crowds[-1] if crowds else set())
        if region and not hit and len(region & excused) <= 0.5 * len(region):
            counts[2, label] += 1
    for index, (target_label, _, crowd) in enumerate(targets):
        if not crowd and index not in matched:
            counts[3, target_label] += 1
    return counts


def random_photo(generator: np.random.Generator) -> tuple:
    target = generator.integers(-1, 7, (6, 8)).repeat(4, 0).repeat(3, 1)
    noise = generator.integers(-1, 9, target.shape)
    prediction = np.where(generator.random(target.shape) < 0.75, target, noise) + 1
    target_labels = generator.integers(0, 3, 7).tolist()
    guesses = generator.integers(0, 3, 9)
    labels = np.where(generator.random(9) < 0.7, [*target_labels, 0, 0], guesses).tolist()
    segments_info = [{"id": index + 1, "label_id": label} for index, label in enumerate(labels)]
    return prediction, segments_info, target, target_labels, (generator.random(7) < 0.3).tolist()


def test_random_maps_equal_the_definition():
    generator = np.random.default_rng(0)
    quality, expected = PanopticQuality(3, [2]), np.zeros((4, 3))
    for _ in range(60):
        photo = random_photo(generator)
        quality.update(*photo)
        expected += reference_counts(*photo, num_labels=3)
    assert expected[1].min() > 20 and expected[2].min() > 10 and expected[3].min() > 10
    np.testing.assert_allclose(quality.state(), expected, rtol=1e-12)


def test_states_of_disjoint_photos_add_up():
    generator = np.random.default_rng(1)
    photos = [random_photo(generator) for _ in range(6)]
    whole, first, second = (PanopticQuality(3, [2]) for _ in range(3))
    for photo in photos:
        whole.update(*photo)
    for photo in photos[:4]:
        first.update(*photo)
    for photo in photos[4:]:
        second.update(*photo)
    first.load_state(first.state() + second.state())
    np.testing.assert_allclose(first.state(), whole.state(), rtol=1e-12)
    assert first.compute()["all"] == pytest.approx(whole.compute()["all"])


def test_the_truth_of_real_photos_scores_one(shared_dir):
    folder = shared_dir / "data" / "coco_panoptic_sample"
    dataset = CocoPanopticDataset.from_folder(folder, "val2017")
    quality = PanopticQuality(len(dataset.categories.id2label), dataset.categories.stuff_label_ids)
    for sample in dataset:
        labels = sample.class_labels.tolist()
        segments_info = [{"id": index + 1, "label_id": label} for index, label in enumerate(labels)]
        prediction = sample.segment_map.numpy() + 1
        quality.update(prediction, segments_info, sample.segment_map.numpy(), labels, sample.is_crowd.tolist())
    result = quality.compute()
    assert [result[name]["pq"] for name in ("all", "things", "stuff")] == [1.0, 1.0, 1.0]
    assert result["all"]["num_classes"] == len({label for sample in dataset for label in sample.class_labels.tolist()})


def test_nothing_predicted_and_nothing_true():
    quality = PanopticQuality(2, [1])
    quality.update(np.zeros((4, 4), int), [], np.full((4, 4), -1), [], [])
    assert quality.compute()["all"] == {"pq": 0.0, "sq": 0.0, "rq": 0.0, "num_classes": 0}
    quality.update(np.full((4, 4), -1), [], np.zeros((4, 4), int), [1], [False])
    assert quality.compute()["per_class"][1]["false_negatives"] == 1


def test_bad_input_is_named():
    quality = PanopticQuality(2, [1])
    square = np.ones((4, 4), int)
    with pytest.raises(ValueError, match=r"\(4, 4\).*\(4, 5\)"):
        quality.update(square, [{"id": 1, "label_id": 0}], np.zeros((4, 5), int), [0], [False])
    with pytest.raises(ValueError, match=r"Ids \[1\].*absent"):
        quality.update(square, [], square, [], [])
    with pytest.raises(ValueError, match="unique"):
        quality.update(square, [{"id": 1, "label_id": 0}] * 2, square, [], [])
    with pytest.raises(ValueError, match=r"Labels \[7\]"):
        quality.update(square, [{"id": 1, "label_id": 7}], square, [], [])
    with pytest.raises(ValueError, match=r"\[5\]"):
        PanopticQuality(2, [5])
    assert quality.state().sum() == 0
