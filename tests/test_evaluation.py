"""A model on a dataset: scores, files, picture sheets, the script, processes."""

import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image
from torch.utils.data import Dataset, IterableDataset

from coco_panoptic_reference import reference_pq
from perturbed_truth import truth_as_prediction
from tiny_yoso import tiny_model
from transformers_yoso.data import CategoryTable, CocoPanopticDataset, PanopticSample
from transformers_yoso.evaluation import evaluate_model, format_table, predict_dataset
from transformers_yoso.evaluation.model_loading import check_labels
from transformers_yoso.inference.coco import ids_to_rgb
from transformers_yoso.models.image_processing_yoso import YosoImageProcessor

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
CHECKPOINT = Path(__file__).resolve().parents[1] / "checkpoints" / "yoso-lite0-facade"


@pytest.fixture(scope="session")
def three_photos(shared_dir, tmp_path_factory) -> Path:
    """A dataset folder with three facade photos and their truth."""
    source, folder = shared_dir / "data" / "facade", tmp_path_factory.mktemp("three_photos")
    content = json.loads((source / "panoptic_val.json").read_text())
    content["annotations"] = content["annotations"][:45:20]
    kept = {annotation["image_id"] for annotation in content["annotations"]}
    content["images"] = [image for image in content["images"] if image["id"] in kept]
    (folder / "panoptic_val.json").write_text(json.dumps(content))
    for part, entries in (("val", content["images"]), ("panoptic_val", content["annotations"])):
        (folder / part).mkdir()
        for entry in entries:
            shutil.copy(source / part / entry["file_name"], folder / part)
    return folder


class TruthProcessor(YosoImageProcessor):
    """Answers with the truth of the image of that size, so that the way from dataset to scores is what is tested."""

    def tell(self, samples: Dataset) -> "TruthProcessor":
        self.truth = {tuple(sample.segment_map.shape): sample for sample in samples}
        return self

    def post_process_panoptic_segmentation(self, outputs, target_sizes=None, **kwargs):
        return [truth_as_prediction(self.truth[size]) for size in target_sizes]

    def post_process_instance_segmentation(self, outputs, target_sizes=None, **kwargs):
        assert kwargs["threshold"] == 0 and kwargs["return_binary_maps"]
        results = [truth_as_prediction(self.truth[size]) for size in target_sizes]
        for result in results:
            ids = torch.tensor([segment["id"] for segment in result["segments_info"]])
            result["segmentation"] = result["segmentation"][None] == ids[:, None, None]
        return results

    def post_process_semantic_segmentation(self, outputs, target_sizes=None, **kwargs):
        truth = [self.truth[size] for size in target_sizes]
        return [torch.cat([sample.class_labels, torch.zeros(1).long()])[sample.segment_map] for sample in truth]


class Stream(IterableDataset):
    """A streamed dataset as the readers make it."""

    def __init__(self, samples: list[PanopticSample]):
        self.samples = samples

    def share(self, process_index: int, num_processes: int) -> "Stream":
        return Stream(self.samples[process_index::num_processes])

    def __iter__(self):
        return iter(self.samples)


@pytest.fixture(scope="module")
def coco(shared_dir) -> CocoPanopticDataset:
    return CocoPanopticDataset.from_folder(shared_dir / "data" / "coco_panoptic_sample", "val2017")


def coco_model(coco: CocoPanopticDataset) -> torch.nn.Module:
    return tiny_model(id2label=coco.categories.id2label, stuff_label_ids=coco.categories.stuff_label_ids)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_the_truth_is_perfect_in_every_subtask(coco, batch_size):
    processor = TruthProcessor(size={"shortest_edge": 64, "longest_edge": 128}).tell(coco)
    subtasks = ("panoptic", "instance", "semantic")
    model = coco_model(coco).train()
    accelerator = Accelerator(cpu=True)
    result = evaluate_model(model, processor, coco, accelerator, subtasks=subtasks, batch_size=batch_size)
    assert model.training
    assert result["all"]["pq"] == result["semantic"]["miou"] == 1.0
    assert result["instance"]["ap"] == pytest.approx(1.0)
    assert [image["pq"] for image in result["images"]] == [1.0, 1.0]
    assert {image["index"]: image["image_id"] for image in result["images"]} == dict(enumerate(coco_ids(coco)))
    table = format_table(result, coco.categories.id2label).splitlines()
    assert [line.split() for line in table if line.startswith("things (")] == [
        ["things", f"({result['things']['num_classes']}", "classes)", "100.0", "100.0", "100.0"],
        ["things", "(80", "classes)", "100.0", "100.0", "100.0", "100.0", "100.0", "-"],  # no large thing is there
    ]
    streamed = evaluate_model(model, processor, Stream(list(coco)), accelerator, subtasks=subtasks)
    assert {**streamed, "seconds": 0, "images": 0} == {**result, "seconds": 0, "images": 0}


def coco_ids(dataset: CocoPanopticDataset) -> list[int]:
    return [annotation["image_id"] for annotation in dataset.annotations]


def test_bad_requests_are_refused(coco):
    processor = TruthProcessor(size={"shortest_edge": 64, "longest_edge": 128}).tell(coco)
    model, accelerator = coco_model(coco), Accelerator(cpu=True)
    with pytest.raises(ValueError, match=r"\['depth'\].*panoptic, instance, semantic"):
        evaluate_model(model, processor, coco, accelerator, subtasks=("depth",))
    with pytest.raises(ValueError, match="one image id"):
        evaluate_model(model, processor, Stream([coco[0], coco[0]]), accelerator)


def test_batches_of_photos_of_several_sizes_give_the_same_results(coco):
    """Masks of each photo are taken out of its own canvas."""
    processor = YosoImageProcessor(size={"shortest_edge": 96, "longest_edge": 160}, threshold=0.0)
    model, accelerator = coco_model(coco), Accelerator(cpu=True)
    subtasks = ("panoptic", "instance", "semantic")
    single = list(predict_dataset(model, processor, coco, accelerator, subtasks=subtasks))
    paired = list(predict_dataset(model, processor, coco, accelerator, subtasks=subtasks, batch_size=2))
    for one, two in zip(single, paired, strict=True):
        assert one.index == two.index
        assert (one.semantic == two.semantic).float().mean() > 0.999
        assert (one.panoptic["segmentation"] == two.panoptic["segmentation"]).float().mean() > 0.999


def run_script(monkeypatch, name: str, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", [str(SCRIPTS / name), *map(str, arguments)])
    runpy.run_path(str(SCRIPTS / name), run_name="__main__")


FAST = ("--size", 192, 192, "--object_threshold", 0.05, "--use_cpu")


def test_script_writes_scores_predictions_and_a_sheet(three_photos, tmp_path, monkeypatch, capsys):
    """The facade checkpoint; PQ of the files it writes, by the reference's rules, is the PQ it reports."""
    common = ["--model_name_or_path", CHECKPOINT, "--dataset_dir", three_photos, "--output_dir", tmp_path]
    subtasks = ["--subtask", "panoptic", "instance", "semantic"]
    run_script(monkeypatch, "evaluate.py", *common, *subtasks, *FAST, "--save_predictions", "--batch_size", 2)
    scores = json.loads((tmp_path / "scores.json").read_text())
    truth = (three_photos / "panoptic_val.json", three_photos / "panoptic_val")
    expected = reference_pq(*truth, tmp_path / "panoptic_val.json", tmp_path / "panoptic_val")
    for group in ("all", "things", "stuff"):
        ours = [scores[group][key] for key in ("pq", "sq", "rq", "num_classes")]
        assert ours == pytest.approx([expected[group][key] for key in ("pq", "sq", "rq", "n")], abs=1e-6)
    assert (
        scores["per_class"]["facade"]["pq"] == pytest.approx(expected["facade"]["pq"], abs=1e-6)
        and scores["all"]["pq"] > 0
    )
    assert scores["instance"]["ap"] > 0 and scores["semantic"]["per_class"]["facade"]["iou"] > 0.3
    assert scores["num_images"] == len(scores["images"]) == 3 and scores["thresholds"]["threshold"] == 0.05

    opened = CocoPanopticDataset(three_photos / "val", tmp_path / "panoptic_val", tmp_path / "panoptic_val.json")
    assert len(opened) == 3 and all(sample.num_segments > 0 for sample in opened)
    with Image.open(tmp_path / "best_and_worst.png") as sheet:
        assert sheet.width > 1000 and np.asarray(sheet.convert("L")).std() > 20
    printed = capsys.readouterr().out
    assert "AP50" in printed and "IoU" in printed and "balcony-fence" in printed


def test_script_stops_after_a_stage(three_photos, tmp_path, monkeypatch):
    """Early exit is scored by the same command, and said in the scores."""
    common = ["--model_name_or_path", CHECKPOINT, "--dataset_dir", three_photos, "--use_cpu", *FAST]
    for stages in (1, 2):
        file = tmp_path / f"{stages}.json"
        run_script(monkeypatch, "evaluate.py", *common, "--output_json", file, "--num_inference_stages", stages)
    one, two = (json.loads((tmp_path / f"{stages}.json").read_text()) for stages in (1, 2))
    assert (one["stages"], two["stages"]) == (1, 2)
    assert one["all"]["pq"] > 0 and one["all"]["pq"] != two["all"]["pq"]
    with pytest.raises(ValueError, match=r"must be 1 to `num_stages` \(2\), got 3"):
        run_script(monkeypatch, "evaluate.py", *common, "--num_inference_stages", 3)


def test_two_processes_of_the_script_equal_one(three_photos, tmp_path):
    """`torchrun` as a user would start it, with an odd number of photos."""
    common = [
        "--model_name_or_path",
        CHECKPOINT,
        "--dataset_dir",
        three_photos,
        *FAST,
        "--subtask",
        "panoptic",
        "semantic",
    ]
    # Sums in another order may flip a pixel of a hard mask, so both have the thread that torchrun gives each worker.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    for launcher, output in (
        (torchrun, ("--output_dir", tmp_path / "two", "--save_predictions")),
        ((), ("--output_json", tmp_path / "one.json")),
    ):
        command = [str(part) for part in (sys.executable, *launcher, SCRIPTS / "evaluate.py", *common, *output)]
        run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr[-3000:]
    two, one = (json.loads(file.read_text()) for file in (tmp_path / "two" / "scores.json", tmp_path / "one.json"))
    assert {**two, "seconds": 0} == {**one, "seconds": 0}
    assert len(json.loads((tmp_path / "two" / "panoptic_val.json").read_text())["annotations"]) == 3


def test_script_names_what_is_missing(three_photos, tmp_path, monkeypatch, capsys):
    model = ["--model_name_or_path", CHECKPOINT, "--use_cpu"]
    with pytest.raises(ValueError, match="no split 'test'"):
        run_script(monkeypatch, "evaluate.py", *model, "--dataset_dir", three_photos, "--split", "test")
    with pytest.raises(OSError, match="no-such-model"):
        missing = ["--model_name_or_path", tmp_path / "no-such-model", "--use_cpu"]
        run_script(monkeypatch, "evaluate.py", *missing, "--dataset_dir", three_photos)
    with pytest.raises(SystemExit):
        run_script(monkeypatch, "evaluate.py", *model, "--dataset_dir", three_photos, "--save_predictions")
    assert "--save_predictions needs --output_dir" in capsys.readouterr().err


def test_labels_must_agree():
    model = tiny_model(id2label={0: "window", 1: "sky", 2: "car"}, stuff_label_ids=[1])

    def refused(message: str, names: list[str], stuff: list[int]) -> None:
        table = CategoryTable({k + 1: k for k in range(len(names))}, dict(enumerate(names)), stuff)
        with pytest.raises(ValueError, match=message):
            check_labels(model.config, table, "the model", "val.json")

    refused(r"the model \(3\).*val.json \(2\).*only the model \['car'\]", ["window", "sky"], [1])
    refused(r"only the dataset has \['door'\]", ["window", "sky", "door"], [1])
    refused("in order", ["sky", "window", "car"], [0])
    refused(r"stuff: \['sky', 'car'\]", ["window", "sky", "car"], [2])


def test_ids_become_coco_colours():
    assert ids_to_rgb(np.array([[0, 7, 258, 3 * 65536 + 2 * 256 + 1]])).tolist() == [
        [[0, 0, 0], [7, 0, 0], [2, 1, 0], [1, 2, 3]]
    ]
