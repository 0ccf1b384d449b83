"""Panoptic quality against numbers computed by hand and against the reference evaluation's rules on real maps."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from coco_panoptic_reference import reference_pq
from perturbed_truth import perturbed_prediction, truth_as_prediction
from transformers_yoso.data import CategoryTable, CocoPanopticDataset, PanopticSample
from transformers_yoso.evaluation import CocoPanopticWriter, Prediction
from transformers_yoso.metrics import PanopticQuality, reference_of

WINDOW, DOOR, SKY, CAR = range(4)


def toy() -> tuple[dict, dict]:
    """
    Six true segments, one of them crowd, and four void pixels in a row of 40 pixels; seven predictions.

    True:  0 window 0-7, 1 window 8-13, 2 sky 14-23, 3 window crowd 24-29, 4 door 30-33, 5 door 34-35, void 36-39.
    """
    target = np.repeat([0, 1, 2, 3, 4, 5, -1], [8, 6, 10, 6, 4, 2, 4])
    prediction = np.zeros(40, dtype=np.int64)
    pixels = {
        # window, 8 pixels: 6 on segment 0 (8), 2 on void; union 8 + 8 - 6 - 2 = 8; IoU 6/8: match
        10: [*range(6), 36, 37],
        # window, 5 pixels: 2 on segment 0, union 11; 3 on segment 1 (6), union 8, IoU 3/8: false positive
        11: [*range(6, 11)],
        # sky, 10 pixels: 3 on segment 1, 7 on segment 2 (10); union 10 + 10 - 7 = 13; IoU 7/13: match
        12: [*range(11, 21)],
        # window, 5 pixels: 4 on the window crowd, 4/5 > 1/2: ignored
        13: [*range(24, 28), 21],
        # door, 5 pixels: 2 on the window crowd, which is not its class; 3 on segment 4 (4), union 6, IoU 3/6 is not
        # above 1/2: false positive
        14: [*range(28, 33)],
        # door, 3 pixels: 1 on segment 5 (2), 2 on void; union 3 + 2 - 1 - 2 = 2, IoU 1/2: no match; void 2/3: ignored
        15: [34, 38, 39],
        # sky, 2 pixels on segment 2, union 10: false positive
        16: [22, 23],
    }
    for segment_id, where in pixels.items():
        prediction[where] = segment_id
    labels = {10: WINDOW, 11: WINDOW, 12: SKY, 13: WINDOW, 14: DOOR, 15: DOOR, 16: SKY}
    segments_info = [{"id": segment_id, "label_id": label} for segment_id, label in labels.items()]
    reference = {
        "image_id": 1,
        "segment_map": target.reshape(4, 10),
        "class_labels": [WINDOW, WINDOW, SKY, WINDOW, DOOR, DOOR],
        "is_crowd": [False, False, False, True, False, False],
    }
    return {"segmentation": prediction.reshape(4, 10), "segments_info": segments_info}, reference


def test_toy_equals_the_hand_computation():
    metric = PanopticQuality(num_labels=4, stuff_label_ids=[SKY])
    prediction, reference = toy()
    metric.add(prediction=prediction, reference=reference)
    result = metric.compute()
    # window: TP {10}, FP {11}, FN {segment 1}; door: FP {14}, FN {4, 5}; sky: TP {12}, FP {16}; car: nowhere
    keys = ("iou_sum", "true_positives", "false_positives", "false_negatives")
    counts = {label: [scores[key] for key in keys] for label, scores in result["per_class"].items()}
    assert counts == {WINDOW: [0.75, 1, 1, 1], DOOR: [0, 0, 1, 2], SKY: [7 / 13, 1, 1, 0], CAR: [0, 0, 0, 0]}
    # window: SQ 0.75 / 1, RQ 1 / (1 + 1/2 + 1/2) = 1/2, PQ 0.375; sky: SQ 7/13, RQ 1 / (1 + 1/2) = 2/3, PQ 14/39
    # door: SQ 0, RQ 0 / (0 + 1/2 + 2/2) = 0, PQ 0
    assert result["per_class"][WINDOW] == pytest.approx(
        {"pq": 0.375, "sq": 0.75, "rq": 0.5, **dict(zip(keys, counts[WINDOW], strict=True))}
    )
    assert result["things"] == pytest.approx({"pq": 0.375 / 2, "sq": 0.375, "rq": 0.25, "num_classes": 2})
    assert result["stuff"] == pytest.approx({"pq": 14 / 39, "sq": 7 / 13, "rq": 2 / 3, "num_classes": 1})
    assert result["all"]["pq"] == pytest.approx((0.375 + 14 / 39) / 3)
    assert result["all"]["num_classes"] == 3
    assert result["per_image"] == pytest.approx({1: (0.375 + 14 / 39) / 3})


def write_and_score(
    samples: list[PanopticSample], categories: CategoryTable, folder: Path, seed: int, largest_shift: int = 6
) -> dict:
    """Perturbs the truth, writes the predictions as files and scores them in memory; returns the scores."""
    generator = np.random.default_rng(seed)
    num_labels = len(categories.id2label)
    metric = PanopticQuality(num_labels, categories.stuff_label_ids)
    writer = CocoPanopticWriter(folder, "predicted", categories)
    for sample in samples:
        panoptic = perturbed_prediction(sample, num_labels, generator, largest_shift)
        metric.add(prediction=panoptic, reference=reference_of(sample))
        writer.add(Prediction(None, sample, panoptic=panoptic))
    writer.finish(Accelerator(cpu=True))
    return metric.compute()


def assert_equal_to_reference(result: dict, reference: dict, id2label: dict[int, str]) -> None:
    for group in ("all", "things", "stuff"):
        for ours, theirs in (("pq", "pq"), ("sq", "sq"), ("rq", "rq"), ("num_classes", "n")):
            assert result[group][ours] == pytest.approx(reference[group][theirs], abs=1e-9), (group, ours)
    for label, scores in result["per_class"].items():
        expected = reference[id2label[label]]
        counts = [scores[key] for key in ("true_positives", "false_positives", "false_negatives")]
        assert counts == [expected["tp"], expected["fp"], expected["fn"]]
        assert scores["pq"] == pytest.approx(expected["pq"], abs=1e-9)


def truth_part(dataset: CocoPanopticDataset, annotations: list[dict], folder: Path) -> Path:
    """A JSON file with a part of a dataset's annotations."""
    content = json.loads(dataset.json_file.read_text())
    file = folder / "truth.json"
    file.write_text(json.dumps({**content, "annotations": annotations}))
    return file


def test_facade_maps_equal_the_reference_evaluation(shared_dir, tmp_path):
    dataset = CocoPanopticDataset.from_folder(shared_dir / "data" / "facade", "val")
    indices = range(0, 76, 15)
    result = write_and_score([dataset[k] for k in indices], dataset.categories, tmp_path, seed=0)
    truth_json = truth_part(dataset, [dataset.annotations[k] for k in indices], tmp_path)
    files = (truth_json, dataset.png_folder, tmp_path / "predicted.json", tmp_path / "predicted")
    assert_equal_to_reference(result, reference_pq(*files), dataset.categories.id2label)
    assert 0.1 < result["all"]["pq"] < 0.9 and result["all"]["num_classes"] >= 8


def test_coco_maps_with_crowd_equal_the_reference_evaluation(shared_dir, tmp_path):
    dataset = CocoPanopticDataset.from_folder(shared_dir / "data" / "coco_panoptic_sample", "val2017")
    assert any(sample.is_crowd.any() for sample in dataset)
    for seed in range(4):
        result = write_and_score(list(dataset), dataset.categories, tmp_path, seed)
        files = (dataset.json_file, dataset.png_folder, tmp_path / "predicted.json", tmp_path / "predicted")
        assert_equal_to_reference(result, reference_pq(*files), dataset.categories.id2label)


def test_listed_targets_without_a_pixel_are_missed_as_in_the_reference(shared_dir, tmp_path):
    """A segment without a pixel counts, and a crowd region without one hides the region of its class before it."""
    source = CocoPanopticDataset.from_folder(shared_dir / "data" / "coco_panoptic_sample", "val2017")
    annotations = json.loads(json.dumps(source.annotations))
    for annotation in annotations:
        segments = annotation["segments_info"]
        category = next((info["category_id"] for info in segments if info["iscrowd"]), segments[0]["category_id"])
        unseen = {"id": 999, "area": 0, "category_id": segments[1]["category_id"], "iscrowd": 0}
        segments[1:1] = [unseen, {**unseen, "id": 998}]
        segments.append({"id": 997, "area": 0, "category_id": category, "iscrowd": 1})
    dataset = CocoPanopticDataset(source.image_folder, source.png_folder, truth_part(source, annotations, tmp_path))
    result = write_and_score(list(dataset), dataset.categories, tmp_path, seed=0)
    files = (dataset.json_file, dataset.png_folder, tmp_path / "predicted.json", tmp_path / "predicted")
    assert_equal_to_reference(result, reference_pq(*files), dataset.categories.id2label)
    metric = PanopticQuality(dataset.categories.num_labels, dataset.categories.stuff_label_ids)
    truth = [truth_as_prediction(sample) for sample in source]
    scores = metric.compute(predictions=truth, references=[reference_of(sample) for sample in dataset])
    assert sum(counts["false_negatives"] for counts in scores["per_class"].values()) == 2 * len(dataset)


def random_sample(image_id: int, generator: np.random.Generator) -> PanopticSample:
    """Seven coarse segments of three classes, a third of them crowd, and void."""
    segment_map = torch.from_numpy(generator.integers(-1, 7, (6, 8)).repeat(4, 0).repeat(3, 1).astype(np.int32))
    return PanopticSample(
        image=torch.zeros(3, *segment_map.shape, dtype=torch.uint8),
        segment_map=segment_map,
        class_labels=torch.from_numpy(generator.integers(0, 3, 7)),
        is_crowd=torch.from_numpy(generator.random(7) < 0.3),
        image_id=image_id,
        file_name=f"{image_id}.png",
    )


def test_several_crowd_regions_of_a_class_follow_the_reference(tmp_path):
    """Random maps, where a class has several crowd regions, of which the reference keeps the last."""
    generator = np.random.default_rng(0)
    samples = [random_sample(image_id, generator) for image_id in range(40)]
    table = CategoryTable(label_of_category={0: 0, 1: 1, 2: 2}, id2label={0: "a", 1: "b", 2: "c"}, stuff_label_ids=[2])
    result = write_and_score(samples, table, tmp_path, seed=1, largest_shift=0)
    truth_writer = CocoPanopticWriter(tmp_path, "truth", table)
    for sample in samples:  # a segment may have no pixel: the reference counts it as missed
        truth_writer.add(Prediction(None, sample, panoptic=truth_as_prediction(sample)))
    truth_writer.finish(Accelerator(cpu=True))
    content = json.loads((tmp_path / "truth.json").read_text())
    for annotation in content["annotations"]:
        crowd = samples[annotation["image_id"]].is_crowd
        for segment in annotation["segments_info"]:
            segment["iscrowd"] = int(crowd[segment["id"] - 1])
    (tmp_path / "truth.json").write_text(json.dumps(content))
    files = (tmp_path / "truth.json", tmp_path / "truth", tmp_path / "predicted.json", tmp_path / "predicted")
    assert_equal_to_reference(result, reference_pq(*files), table.id2label)
    counts = np.array([list(scores.values()) for scores in result["per_class"].values()])
    assert counts[:, -3:].min() > 10


def test_the_truth_of_real_photos_scores_one(shared_dir):
    dataset = CocoPanopticDataset.from_folder(shared_dir / "data" / "coco_panoptic_sample", "val2017")
    metric = PanopticQuality(len(dataset.categories.id2label), dataset.categories.stuff_label_ids)
    predictions = [truth_as_prediction(sample) for sample in dataset]
    result = metric.compute(predictions=predictions, references=[reference_of(sample) for sample in dataset])
    assert [result[name]["pq"] for name in ("all", "things", "stuff")] == [1.0, 1.0, 1.0]
    assert result["all"]["num_classes"] == len({label for sample in dataset for label in sample.class_labels.tolist()})


def test_nothing_predicted_and_nothing_true():
    metric = PanopticQuality(2, [1])
    nothing = {"segmentation": np.zeros((4, 4), int), "segments_info": []}
    empty = {"image_id": 0, "segment_map": np.full((4, 4), -1), "class_labels": [], "is_crowd": []}
    metric.add(prediction=nothing, reference=empty)
    result = metric.compute()
    assert result["all"] == {"pq": 0.0, "sq": 0.0, "rq": 0.0, "num_classes": 0} and result["per_image"] == {0: None}
    one = {"image_id": 0, "segment_map": np.zeros((4, 4), int), "class_labels": [1], "is_crowd": [False]}
    metric.add(prediction=nothing, reference=one)
    assert metric.compute()["per_class"][1]["false_negatives"] == 1


def test_bad_input_is_named():
    metric = PanopticQuality(2, [1])
    square = np.ones((4, 4), int)
    reference = {"image_id": 7, "segment_map": square - 1, "class_labels": [0], "is_crowd": [False]}

    def refused(message: str, segments: list[dict], **changes: object) -> None:
        with pytest.raises(ValueError, match=message):
            metric.add(
                prediction={"segmentation": square, "segments_info": segments}, reference={**reference, **changes}
            )

    one = {"id": 1, "label_id": 0}
    refused(r"Image 7.*\(4, 4\).*\(4, 5\)", [one], segment_map=np.zeros((4, 5), int))
    refused(r"Ids \[1\].*absent", [])
    refused("unique", [one, one])
    refused(r"Ids \[2\].*no pixel", [one, {"id": 2, "label_id": 0}])
    refused(r"Labels \[7\]", [{"id": 1, "label_id": 7}])
    refused("1 class labels, 2 crowd marks", [one], is_crowd=[False, True])
    with pytest.raises(ValueError, match=r"\[5\]"):
        PanopticQuality(2, [5])
    with pytest.raises(ValueError, match="0 predictions and 1 references"):
        metric.add_batch(predictions=[], references=[reference])
    assert len(metric) == 0
