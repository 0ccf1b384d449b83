"""AP of a panoptic model on COCO `instances` annotations: by name, at several scales, equal to pycocotools on files."""

import contextlib
import io
import json
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from accelerate import Accelerator
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from perturbed_truth import perturbed_instances
from tiny_yoso import tiny_model
from transformers_yoso.data import CocoInstancesDataset, CocoPanopticDataset
from transformers_yoso.evaluation import evaluate_model
from transformers_yoso.evaluation.coco_instances import evaluate_coco_instances
from transformers_yoso.models.image_processing_yoso import YosoImageProcessor
from transformers_yoso.models.modeling_yoso import YosoForUniversalSegmentation

ROOT = Path(__file__).resolve().parents[1]
CHECKPOINT = ROOT / "checkpoints" / "yoso-lite0-facade"
METRICS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")


def instances_folder(source: CocoPanopticDataset, indices: list[int], folder: Path, split: str) -> Path:
    """The things of a panoptic dataset as COCO instances, with other category ids in reverse order."""
    (folder / split).mkdir(parents=True)
    stuff, names = set(source.categories.stuff_label_ids), source.categories.id2label
    images, annotations = [], []
    for index in indices:
        sample = source[index]
        shutil.copy(sample.file_name, folder / split)
        height, width = sample.segment_map.shape
        images.append({"id": index, "file_name": Path(sample.file_name).name, "height": height, "width": width})
        for k, label in enumerate(sample.class_labels.tolist()):
            if label not in stuff:
                mask = np.asfortranarray((sample.segment_map == k).numpy(), dtype=np.uint8)
                rle = coco_mask.encode(mask)
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": index,
                        "category_id": 500 - label,
                        "iscrowd": int(sample.is_crowd[k]),
                        "area": int(mask.sum()),
                        "bbox": coco_mask.toBbox(rle).tolist(),
                        "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
                    }
                )
    categories = [{"id": 500 - label, "name": name} for label, name in names.items() if label not in stuff][::-1]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations").mkdir()
    (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return folder


def pycocotools_scores(truth: Path, results: list[dict]) -> list[float | None]:
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(truth))
        evaluation = COCOeval(coco, coco.loadRes(results), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [None if value == -1 else value for value in evaluation.stats[:6].tolist()]


class PerturbedTruth(YosoImageProcessor):
    """Answers with the truth of the photo of that size and the mistakes that a model makes, stuff included."""

    def tell(self, samples: CocoPanopticDataset) -> "PerturbedTruth":
        self.truth, self.num_labels = {tuple(s.segment_map.shape): s for s in samples}, samples.categories.num_labels
        return self

    def post_process_instance_segmentation(self, outputs, target_sizes=None, **kwargs):
        generator = np.random.default_rng(0)
        return [perturbed_instances(self.truth[size], self.num_labels, generator) for size in target_sizes]


def test_coco_photos_score_as_pycocotools_says(shared_dir, tmp_path):
    panoptic = CocoPanopticDataset.from_folder(shared_dir / "data" / "coco_panoptic_sample", "val2017")
    folder = instances_folder(panoptic, [0, 1], tmp_path / "coco", "val2017")
    dataset = CocoInstancesDataset.from_folder(folder, "val2017")
    model = tiny_model(id2label=panoptic.categories.id2label, stuff_label_ids=panoptic.categories.stuff_label_ids)
    processor = PerturbedTruth(size={"shortest_edge": 64, "longest_edge": 128}).tell(panoptic)
    scores = evaluate_coco_instances(model, processor, dataset, Accelerator(cpu=True))
    things = {panoptic.categories.id2label[label] for label in range(80)}
    assert set(scores["per_class"]) == things
    assert {result["category_id"] for result in scores["results"]} <= {500 - label for label in range(80)}
    truth = folder / "annotations" / "instances_val2017.json"
    assert [scores[name] for name in METRICS] == pytest.approx(pycocotools_scores(truth, scores["results"]), abs=1e-12)
    assert 0.1 < scores["ap"] < 0.9 and scores["per_class"]["person"]["ap"] > 0


def test_one_command_scores_every_scale(shared_dir, tmp_path, monkeypatch, capsys):
    """The facade checkpoint, saved for 448 by 746, at two scales: as by the panoptic folder, where no masks overlap."""
    panoptic = CocoPanopticDataset.from_folder(shared_dir / "data" / "facade", "val")
    panoptic.annotations = panoptic.annotations[:41:20]
    panoptic.image_names = panoptic.image_names[:41:20]
    folder = instances_folder(panoptic, [0, 1, 2], tmp_path / "facade", "val")
    arguments = ["--model_name_or_path", CHECKPOINT, "--dataset_dir", folder, "--split", "val", "--use_cpu"]
    run = [*arguments, "--scales", 160, 224, "--output_dir", tmp_path / "out", "--batch_size", 2]
    monkeypatch.setattr(sys, "argv", ["evaluate_instances.py", *map(str, run)])
    runpy.run_path(str(ROOT / "scripts" / "evaluate_instances.py"), run_name="__main__")
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())["scales"]
    assert list(scores) == ["160", "224"]
    model = YosoForUniversalSegmentation.from_pretrained(CHECKPOINT)
    for scale, result in scores.items():
        assert result["size"] == {"shortest_edge": int(scale), "longest_edge": {"160": 266, "224": 373}[scale]}
        processor = YosoImageProcessor.from_pretrained(CHECKPOINT, size=result["size"])
        expected = evaluate_model(model, processor, panoptic, Accelerator(cpu=True), subtasks=["instance"])["instance"]
        assert [result[name] for name in METRICS] == pytest.approx([expected[name] for name in METRICS], abs=1e-6)
        results = json.loads((tmp_path / "out" / f"instances_{scale}.json").read_text())
        truth = folder / "annotations" / "instances_val.json"
        assert [result[name] for name in METRICS] == pytest.approx(pycocotools_scores(truth, results), abs=1e-12)
    assert scores["160"]["ap50"] > 0 and scores["160"]["ap"] != scores["224"]["ap"]
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in printed[-2:]] == [["160", "266"], ["224", "373"]]


def test_a_folder_of_another_layout_is_explained_in_one_line(tmp_path, monkeypatch):
    (tmp_path / "panoptic_val2017.json").write_text("{}")
    run = ["--model_name_or_path", CHECKPOINT, "--dataset_dir", tmp_path, "--use_cpu"]
    monkeypatch.setattr(sys, "argv", ["evaluate_instances.py", *map(str, run)])
    expected = (
        r"Not evaluated: Expected instances_val2017\.json in .* or its annotations/; .* has: panoptic_val2017\.json"
    )
    with pytest.raises(SystemExit, match=expected):
        runpy.run_path(str(ROOT / "scripts" / "evaluate_instances.py"), run_name="__main__")


def test_a_model_of_other_classes_is_refused(shared_dir, tmp_path):
    panoptic = CocoPanopticDataset.from_folder(shared_dir / "data" / "coco_panoptic_sample", "val2017")
    folder = instances_folder(panoptic, [0], tmp_path / "coco", "val2017")
    dataset = CocoInstancesDataset.from_folder(folder, "val2017")
    processor = YosoImageProcessor(size={"shortest_edge": 64, "longest_edge": 128})
    names = {**panoptic.categories.id2label, 0: "somebody"}
    model = tiny_model(id2label=names, stuff_label_ids=panoptic.categories.stuff_label_ids)
    with pytest.raises(ValueError, match=r"instances_val2017\.json: the categories \['person'\] are no thing classes"):
        evaluate_coco_instances(model, processor, dataset, Accelerator(cpu=True))
