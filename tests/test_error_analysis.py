"""Causes of errors on maps drawn by hand, what they cost, and the script that reports them."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from perturbed_truth import perturbed_instances, perturbed_prediction, truth_as_prediction
from transformers_yoso.data import CocoPanopticDataset, PanopticSample
from transformers_yoso.evaluation import Prediction
from transformers_yoso.evaluation.error_analysis import ErrorAnalysis, format_errors
from transformers_yoso.evaluation.error_causes import false_causes, miss_causes
from transformers_yoso.evaluation.error_examples import ErrorExamples
from transformers_yoso.metrics import SegmentOverlap

WINDOW, DOOR, SKY = range(3)


def overlap_of(target: list[int], labels: list[int], prediction: list[int], predicted_labels: list[int], crowd=()):
    """Rows of pixels: true segments from 0 (-1 void), predicted segments from 1 (0 void)."""
    segments = [{"id": k + 1, "label_id": label} for k, label in enumerate(predicted_labels)]
    reference = {
        "image_id": 0,
        "segment_map": np.array([target]),
        "class_labels": labels,
        "is_crowd": [k in crowd for k in range(len(labels))],
    }
    return SegmentOverlap.count({"segmentation": np.array([prediction]), "segments_info": segments}, reference, 3)


def test_each_cause_is_told():
    nothing = np.zeros(1)
    two = np.zeros(2)
    target, window = [0] * 10 + [-1] * 10, [WINDOW]

    def causes(prediction: list[int], predicted_labels: list[int], query_iou: np.ndarray = nothing) -> tuple:
        overlap = overlap_of(target, window, prediction, predicted_labels)
        return miss_causes(overlap, query_iou), false_causes(overlap)

    assert causes([1] * 8 + [0] * 12, [WINDOW]) == (["matched"], ["matched"])
    assert causes([1] * 8 + [0] * 12, [DOOR]) == (["wrong class"], ["wrong class"])
    assert causes([1] * 4 + [0] * 16, [WINDOW]) == (["poor outline"], ["poor outline"])
    assert causes([1] * 4 + [0] * 16, [WINDOW], np.ones(1)) == (["found but suppressed"], ["poor outline"])
    assert causes([0] * 20, []) == (["not found"], [])
    assert causes([1] * 3 + [0] * 17, [DOOR]) == (["not found"], ["nothing there"])
    assert causes([0] * 9 + [1] * 8 + [0] * 3, [DOOR]) == (["not found"], [None])  # void excuses it
    assert causes([1] * 7 + [2] * 2 + [0] * 11, [WINDOW, WINDOW]) == (["matched"], ["matched", "duplicate"])

    neighbours = overlap_of([0] * 6 + [1] * 6, [WINDOW, WINDOW], [1] * 12, [WINDOW])
    assert miss_causes(neighbours, two) == ["merged with a neighbour"] * 2
    assert false_causes(neighbours) == ["merged with a neighbour"]
    swallowed = overlap_of([0] * 9 + [1] * 3, [WINDOW, WINDOW], [1] * 12, [WINDOW])
    assert miss_causes(swallowed, two) == ["matched", "merged with a neighbour"]
    crowd = overlap_of([0] * 6 + [1] * 6, [WINDOW, WINDOW], [1] * 12, [WINDOW], crowd=[1])
    assert miss_causes(crowd, two) == ["poor outline", None]


@pytest.fixture(scope="module")
def photos(shared_dir) -> CocoPanopticDataset:
    return CocoPanopticDataset.from_folder(shared_dir / "data" / "facade", "val")


def analyse(photos: CocoPanopticDataset, samples: list[PanopticSample], results: list[dict], instances: list[dict]):
    names, stuff = photos.categories.id2label, photos.categories.stuff_label_ids
    analysis = ErrorAnalysis(names, stuff, ErrorExamples(names, count=1))
    for sample, panoptic, instance in zip(samples, results, instances, strict=True):
        analysis.add(Prediction(None, sample, panoptic=panoptic, instance=instance))
    return analysis


def test_real_photos_are_counted_and_drawn(photos, tmp_path):
    generator = np.random.default_rng(0)
    samples = [photos[k] for k in (0, 40)]
    results = [perturbed_prediction(sample, 10, generator) for sample in samples]
    analysis = analyse(photos, samples, results, [perturbed_instances(sample, 10, generator) for sample in samples])
    result = analysis.result()
    for kind, total in (("missed", sum(sample.num_segments for sample in samples)), ("false", None)):
        by_class, by_size = (sum_of(result[kind][group]) for group in ("by_class", "by_size"))
        assert by_class == by_size and (total is None or by_class == total)
    matched = [sum(row["matched"] for row in result[kind]["by_class"].values()) for kind in ("missed", "false")]
    assert matched[0] == matched[1] > 0
    assert all(pq >= result["pq"] for pq in result["pq_without"].values())
    assert max(result["pq_without"].values()) > result["pq"] > 0
    text = format_errors(result)
    assert "| wrong class |" in text and "| balcony-fence |" in text
    analysis.examples.save(tmp_path / "errors.png")
    with Image.open(tmp_path / "errors.png") as sheet:
        assert sheet.height > 500 and np.asarray(sheet.convert("L")).std() > 20


def sum_of(rows: dict[str, dict[str, int]]) -> int:
    return sum(sum(row.values()) for row in rows.values())


def test_without_an_error_nothing_is_to_be_gained(photos, tmp_path):
    sample = photos[0]
    nothing = {"segmentation": torch.zeros(0, *sample.segment_map.shape, dtype=torch.bool), "segments_info": []}
    analysis = analyse(photos, [sample], [truth_as_prediction(sample)], [nothing])
    result = analysis.result()
    assert result["pq"] == 1.0 and set(result["pq_without"].values()) == {1.0}
    analysis.examples.save(tmp_path / "errors.png")
    assert not (tmp_path / "errors.png").exists()


def test_script_reports_on_the_facade_checkpoint(shared_dir, tmp_path, monkeypatch, capsys):
    source, folder = shared_dir / "data" / "facade", tmp_path / "data"
    content = json.loads((source / "panoptic_val.json").read_text())
    content["annotations"] = content["annotations"][:1]
    folder.mkdir()
    (folder / "panoptic_val.json").write_text(json.dumps(content))
    for part in ("val", "panoptic_val"):
        (folder / part).symlink_to((source / part).resolve())
    script = Path(__file__).resolve().parents[1] / "scripts" / "analyse_errors.py"
    checkpoint = script.parents[1] / "checkpoints" / "yoso-lite0-facade"
    arguments = ["--model_name_or_path", checkpoint, "--dataset_dir", folder, "--output_dir", tmp_path, "--use_cpu"]
    monkeypatch.setattr(sys, "argv", [str(script), *map(str, arguments)])
    runpy.run_path(str(script), run_name="__main__")
    result = json.loads((tmp_path / "errors.json").read_text())
    assert sum_of(result["missed"]["by_class"]) == len(content["annotations"][0]["segments_info"])
    assert (tmp_path / "errors.md").read_text() == capsys.readouterr().out and (tmp_path / "errors.png").is_file()
