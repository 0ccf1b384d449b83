"""Instance AP and mean IoU by hand and by other code; all metrics as `evaluate` modules, in batches and processes."""

import contextlib
import io
import json
import pickle
from pathlib import Path

import evaluate
import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from perturbed_truth import perturbed_instances, perturbed_prediction
from transformers_yoso import metrics as metrics_package
from transformers_yoso.data import CocoPanopticDataset, PanopticSample
from transformers_yoso.metrics import InstanceAveragePrecision, MeanIoU, PanopticQuality, reference_of

METRICS_FOLDER = Path(metrics_package.__file__).parent


@pytest.fixture(scope="module")
def samples(shared_dir) -> list[PanopticSample]:
    """Five facade photos of the validation split."""
    dataset = CocoPanopticDataset.from_folder(shared_dir / "data" / "facade", "val")
    return [dataset[k] for k in range(0, 75, 15)]


STUFF = [6, 7, 8, 9]
GROUPS = {"num_labels": 10, "stuff_label_ids": STUFF}


def predictions_of(samples: list[PanopticSample]) -> dict[str, list]:
    """Perturbed truth for each of the metrics, the same on every call."""
    generator = np.random.default_rng(0)
    return {
        "panoptic_quality": [perturbed_prediction(sample, 10, generator) for sample in samples],
        "instance_average_precision": [perturbed_instances(sample, 10, generator) for sample in samples],
        "mean_iou": [torch.from_numpy(generator.integers(0, 10, sample.segment_map.shape)) for sample in samples],
    }


def make_metrics() -> dict[str, metrics_package.GatheredMetric]:
    return {
        "panoptic_quality": PanopticQuality(**GROUPS),
        "instance_average_precision": InstanceAveragePrecision(**GROUPS),
        "mean_iou": MeanIoU(10),
    }


# --- instance AP ----------------------------------------------------------------------------------------------------


def strip(*ranges: tuple[int, int]) -> torch.Tensor:
    """Masks `(instances, 1, 20)` of pixel ranges."""
    masks = torch.zeros(len(ranges), 1, 20, dtype=torch.bool)
    for mask, (start, stop) in zip(masks, ranges, strict=True):
        mask[0, start:stop] = True
    return masks


def test_average_precision_equals_the_hand_computation():
    segment_map = torch.full((1, 20), -1)
    segment_map[0, :4], segment_map[0, 6:10], segment_map[0, 12:16], segment_map[0, 16:] = 0, 1, 2, 3
    reference = {
        "image_id": 1,
        "segment_map": segment_map,
        "class_labels": [0, 0, 0, 1],
        "is_crowd": [False, False, True, False],
    }
    # By score: a hit (IoU 1), a miss, one inside the crowd region (ignored), a hit (IoU 1), one of a stuff class (left out)
    instances = {
        "segmentation": strip((0, 4), (4, 6), (13, 15), (6, 10), (16, 20)),
        "segments_info": [
            {"label_id": label, "score": score} for label, score in ((0, 0.9), (0, 0.8), (0, 0.7), (0, 0.6), (1, 1.0))
        ],
    }
    metric = InstanceAveragePrecision(num_labels=2, stuff_label_ids=[1])
    result = metric.compute(predictions=[instances], references=[reference])
    # Precision 1 at the recalls 0, 0.01, ..., 0.5 and 2/3 at 0.51, ..., 1
    expected = (51 + 50 * 2 / 3) / 101
    for name in ("ap", "ap50", "ap75", "ap_small"):
        assert result[name] == pytest.approx(expected), name
    assert result["ap_medium"] is None and result["ap_large"] is None
    assert result["per_class"] == {0: pytest.approx({"ap": expected, "ap50": expected, "ap75": expected})}


def test_average_precision_equals_pycocotools_on_files(samples, tmp_path):
    """The same instances through COCO's own JSON formats, `loadRes` and `summarize`."""
    instances = predictions_of(samples)["instance_average_precision"]
    annotations, results = [], []
    for image_id, (sample, prediction) in enumerate(zip(samples, instances, strict=True), start=1):
        for k, label in enumerate(sample.class_labels.tolist()):
            rle = run_lengths(sample.segment_map == k)
            area = int((sample.segment_map == k).sum())
            box = coco_mask.toBbox(rle).tolist()
            common = {"image_id": image_id, "category_id": label, "segmentation": as_json(rle)}
            annotations.append({**common, "id": len(annotations) + 1, "area": area, "bbox": box, "iscrowd": 0})
        for mask, segment in zip(prediction["segmentation"], prediction["segments_info"], strict=True):
            common = {"image_id": image_id, "category_id": segment["label_id"], "score": segment["score"]}
            results.append({**common, "segmentation": as_json(run_lengths(mask))})
    images = [{"id": k + 1, "height": 512, "width": 512} for k in range(len(samples))]
    things = [label for label in range(10) if label not in STUFF]
    truth = {"images": images, "annotations": annotations, "categories": [{"id": label} for label in range(10)]}
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "results.json").write_text(json.dumps(results))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(tmp_path / "truth.json"))
        expected = COCOeval(coco, coco.loadRes(str(tmp_path / "results.json")), "segm")
        expected.params.catIds = things
        expected.evaluate()
        expected.accumulate()
        expected.summarize()
    metric = InstanceAveragePrecision(**GROUPS)
    result = metric.compute(predictions=instances, references=[reference_of(sample) for sample in samples])
    ours = [result[name] for name in ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")]
    assert ours == pytest.approx(expected.stats[:6].tolist(), abs=1e-12)
    assert 0.1 < result["ap"] < 0.9


def run_lengths(mask: torch.Tensor) -> dict:
    return coco_mask.encode(np.asfortranarray(mask.numpy(), dtype=np.uint8))


def as_json(rle: dict) -> dict:
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def test_average_precision_without_instances_is_unknown(samples):
    metric = InstanceAveragePrecision(num_labels=10, stuff_label_ids=range(10))
    instances = predictions_of(samples[:1])["instance_average_precision"]
    result = metric.compute(predictions=instances, references=[reference_of(samples[0])])
    assert result["ap"] is None and result["per_class"] == {}


def test_average_precision_refuses_a_flat_map(samples):
    flat = {"segmentation": samples[0].segment_map, "segments_info": []}
    with pytest.raises(ValueError, match="return_binary_maps=True"):
        InstanceAveragePrecision(**GROUPS).add(prediction=flat, reference=reference_of(samples[0]))


# --- mean IoU -------------------------------------------------------------------------------------------------------


def test_mean_iou_equals_the_hand_computation():
    reference = {
        "image_id": 1,
        "segment_map": torch.tensor([[0, 0, 0, 1, 1, 2, -1, -1]]),
        "class_labels": [0, 1, 0],  # segments 0 and 2 are of class 0
        "is_crowd": [False, False, True],  # a crowd region is of its class like any other
    }
    prediction = torch.tensor([[0, 0, 2, 1, 0, 0, 3, 0]])  # the last two are on void
    result = MeanIoU(num_labels=4).compute(predictions=[prediction], references=[reference])
    # class 0: right 3, true 4, predicted 4: IoU 3/5; class 1: 1, 2, 1: 1/2; class 2: 0, 0, 1: 0; class 3 nowhere
    assert result["per_class"] == {
        0: {"iou": 0.6, "accuracy": 0.75},
        1: {"iou": 0.5, "accuracy": 0.5},
        2: {"iou": 0.0, "accuracy": None},
        3: {"iou": None, "accuracy": None},
    }
    assert result["miou"] == pytest.approx(1.1 / 3) and result["num_classes"] == 3
    assert result["mean_accuracy"] == pytest.approx(0.625) and result["pixel_accuracy"] == pytest.approx(4 / 6)


def test_mean_iou_refuses_unknown_classes():
    reference = {"image_id": 1, "segment_map": torch.zeros(1, 2), "class_labels": [0], "is_crowd": [False]}
    with pytest.raises(ValueError, match=r"Labels \[4\]"):
        MeanIoU(num_labels=4).add(prediction=torch.tensor([[0, 4]]), reference=reference)


# --- evaluate modules, batches, processes ---------------------------------------------------------------------------


def test_modules_are_loaded_by_path_and_batches_do_not_matter(samples, tmp_path):
    references = [reference_of(sample) for sample in samples]
    for name, predictions in predictions_of(samples).items():
        groups = {"num_labels": 10} if name == "mean_iou" else GROUPS
        loaded = evaluate.load(str(METRICS_FOLDER / f"{name}.py"), cache_dir=str(tmp_path), **groups)
        assert isinstance(loaded, evaluate.Metric)
        loaded.add_batch(predictions=predictions[:2], references=references[:2])
        loaded.add(prediction=predictions[2], reference=references[2])
        loaded.add_batch(predictions=predictions[2:], references=references[2:])  # the third again
        assert len(loaded) == 5
        whole = make_metrics()[name].compute(predictions=predictions, references=references)
        assert loaded.compute() == whole
        assert len(loaded) == 0
    assert list(tmp_path.iterdir()) == []


def test_an_image_keeps_little_memory(samples):
    """What is kept of a 512 x 512 photo with all its segments is a small part of one byte per pixel."""
    for name, metric in make_metrics().items():
        metric.add(prediction=predictions_of(samples[:1])[name][0], reference=reference_of(samples[0]))
        assert len(pickle.dumps(metric._records)) < 0.1 * 512 * 512, name


SHARES = {"padded": [[0, 2, 4], [1, 3, 0, 0]], "idle": [[0, 1, 2, 3, 4], []]}
"""Photos of each of two processes: uneven shares, one filled up with photos of the other or without any."""


def score_shares(rank: int, folder: Path, samples: list[PanopticSample]) -> None:
    """What one of two processes does."""
    torch.distributed.init_process_group("gloo", f"file://{folder / 'meet'}", rank=rank, world_size=2)
    predictions, metrics = predictions_of(samples), make_metrics()
    results = {case: {} for case in SHARES}
    for case, shares in SHARES.items():
        for name, metric in metrics.items():
            for k in shares[rank]:
                metric.add(prediction=predictions[name][k], reference=reference_of(samples[k]))
            results[case][name] = metric.compute()
    torch.distributed.destroy_process_group()
    (folder / f"{rank}.pkl").write_bytes(pickle.dumps(results))


def test_two_processes_equal_one(samples, tmp_path):
    """Both processes get the whole result, and no photo counts twice."""
    torch.multiprocessing.spawn(score_shares, (tmp_path, samples), nprocs=2)
    predictions, references = predictions_of(samples), [reference_of(sample) for sample in samples]
    results = [pickle.loads((tmp_path / f"{rank}.pkl").read_bytes()) for rank in range(2)]
    for name, metric in make_metrics().items():
        whole = metric.compute(predictions=predictions[name], references=references)
        for case in SHARES:
            assert results[0][case][name] == whole and results[1][case][name] == whole


def test_processes_that_do_not_know_each_other_are_refused():
    metric = PanopticQuality(**GROUPS, num_process=2, process_id=1)
    with pytest.raises(ValueError, match="torchrun"):
        metric.compute()
