"""Training: model folders, evaluation while training, the scripts."""

import json
import runpy
import sys
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from training_runs import log_of, small_model, small_run
from transformers_yoso.data import CocoPanopticDataset, PanopticSample
from transformers_yoso.models.image_processing_yoso import YosoImageProcessor
from transformers_yoso.models.modeling_yoso import YosoForUniversalSegmentation
from transformers_yoso.training import (
    ModelArguments,
    OptimizationArguments,
    build_image_processor,
    build_model,
    evaluate_panoptic,
    format_table,
    save_model_folder,
)


def test_half_precision_folder_opens_in_float32(photos, tmp_path):
    run = small_run(tmp_path)
    model = small_model(photos.categories)
    image_processor = build_image_processor(run.model, run.data, photos.categories)
    save_model_folder(model, image_processor, tmp_path / "half", half_precision=True)
    save_model_folder(model, image_processor, tmp_path / "full", half_precision=False)
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("half", "full")]
    assert sizes[0] < 0.52 * sizes[1]
    opened = YosoForUniversalSegmentation.from_pretrained(tmp_path / "half")
    assert opened.dtype == torch.float32
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(opened.state_dict()[name], tensor, rtol=1e-3, atol=1e-6)
    processor = YosoImageProcessor.from_pretrained(tmp_path / "half")
    assert processor.threshold == 0.0 and list(processor.label_ids_to_fuse) == photos.categories.stuff_label_ids
    assert processor.size["shortest_edge"] == 96 and processor.size["longest_edge"] == 160


def test_checkpoint_for_other_classes_gets_a_new_classifier(photos, tmp_path, shared_dir):
    run = small_run(tmp_path)
    model = small_model(photos.categories)
    save_model_folder(model, build_image_processor(run.model, run.data, photos.categories), tmp_path, False)
    coco = CocoPanopticDataset.from_folder(shared_dir / "data" / "coco_panoptic_sample", "val2017").categories
    arguments = ModelArguments(model_name_or_path=str(tmp_path))
    other = build_model(arguments, coco)
    assert other.config.num_labels == 133 and other.config.stuff_label_ids == coco.stuff_label_ids
    assert other.config.id2label[0] == "person"
    assert other.class_branches[0].classifier.weight.shape[0] == 134
    assert torch.equal(other.model.decoder.proposal_kernels.weight, model.model.decoder.proposal_kernels.weight)
    processor = build_image_processor(arguments, run.data, coco)
    assert list(processor.label_ids_to_fuse) == coco.stuff_label_ids


def test_fine_tuning_keeps_the_thresholds_of_its_checkpoint_but_for_those_given(photos, tmp_path):
    run = small_run(tmp_path)
    YosoImageProcessor(threshold=0.25, overlap_mask_area_threshold=0.6).save_pretrained(tmp_path)
    thresholds = []
    for arguments in (
        ModelArguments(model_name_or_path=str(tmp_path)),
        ModelArguments(model_name_or_path=str(tmp_path), object_threshold=0.0),
        ModelArguments(backbone="test_resnet"),
    ):
        processor = build_image_processor(arguments, run.data, photos.categories)
        thresholds.append((processor.threshold, processor.overlap_mask_area_threshold))
    assert thresholds == [(0.25, 0.6), (0.0, 0.6), (0.5, 0.8)]


class TruthProcessor(YosoImageProcessor):
    """Answers with the true segments, so that evaluation's own path from dataset to scores is what is tested."""

    truth: ClassVar[dict[int, PanopticSample]] = {}

    def post_process_panoptic_segmentation(self, outputs, target_sizes=None, **kwargs):
        sample = self.truth[int(outputs.image_sizes[0, 1])]
        segments = [{"id": index + 1, "label_id": label} for index, label in enumerate(sample.class_labels.tolist())]
        assert target_sizes == [tuple(sample.segment_map.shape)]
        return [{"segmentation": sample.segment_map + 1, "segments_info": segments}]


def test_evaluation_of_the_truth_is_perfect_and_leaves_the_generator(shared_dir):
    dataset = CocoPanopticDataset.from_folder(shared_dir / "data" / "coco_panoptic_sample", "val2017")
    processor = TruthProcessor(size={"shortest_edge": 64, "longest_edge": 128})
    TruthProcessor.truth = {
        int(processor(images=s.image, return_tensors="pt").pixel_mask[0, 0].sum()): s for s in dataset
    }
    assert len(TruthProcessor.truth) == 2
    model = small_model(dataset.categories).train()
    state = torch.get_rng_state()
    result = evaluate_panoptic(model, processor, dataset, Accelerator(cpu=True))
    assert torch.equal(torch.get_rng_state(), state) and model.training
    assert result["all"]["pq"] == result["stuff"]["sq"] == 1.0 and result["num_images"] == 2
    table = format_table(result, dataset.categories.id2label)
    assert len(table.splitlines()) == 1 + 3 + 133 and "100.0  100.0  100.0" in table.splitlines()[1]


def test_senseless_arguments_are_refused():
    with pytest.raises(ValueError, match="max_train_steps"):
        OptimizationArguments(max_train_steps=0)


def run_script(monkeypatch, name: str, *arguments: object) -> None:
    script = Path(__file__).resolve().parents[1] / "scripts" / name
    monkeypatch.setattr(sys, "argv", [str(script), *map(str, arguments)])
    runpy.run_path(str(script), run_name="__main__")


def test_scripts_train_and_evaluate(shared_dir, tmp_path, monkeypatch, capsys):
    dataset_dir = shared_dir / "data" / "coco_panoptic_sample"
    network = ["--backbone", "resnet18", "--pyramid_channels", 16, 16, 16, 16, "--hidden_dim", 32]
    data = ["--train_split", "val2017", "--validation_split", "val2017", "--image_size", 64]
    steps = ["--max_train_steps", 2, "--per_device_train_batch_size", 2, "--logging_steps", 1, "--ema_decay", 0.9]
    common = ["--dataset_dir", dataset_dir, "--use_cpu"]
    saved = ["--validation_size", 64, 128, "--object_threshold", 0.0, "--save_half_precision"]
    run_script(monkeypatch, "train.py", *network, *data, *steps, *common, *saved, "--output_dir", tmp_path / "run")
    assert [line["step"] for line in log_of(tmp_path / "run")] == [1, 2, 2]
    assert json.loads((tmp_path / "run" / "arguments.json").read_text())["image_size"] == [64]
    trained_pq = log_of(tmp_path / "run")[-1]["eval_pq_all"]

    AcceleratorState._reset_state(reset_partial_state=True)
    scores = ["--split", "val2017", "--output_json", tmp_path / "scores.json"]
    run_script(monkeypatch, "evaluate.py", "--model_name_or_path", tmp_path / "run", *common, *scores)
    result = json.loads((tmp_path / "scores.json").read_text())
    assert result["num_images"] == 2 and set(result["per_class"]) >= {"person", "grass-merged"}
    assert result["all"]["pq"] == pytest.approx(trained_pq, abs=0.02)  # weights lie in float16
    assert "sky-other-merged" in capsys.readouterr().out


def test_evaluation_on_a_dataset_of_other_classes_is_refused(photos, tmp_path, shared_dir, monkeypatch):
    run = small_run(tmp_path)
    model = small_model(photos.categories)
    save_model_folder(model, build_image_processor(run.model, run.data, photos.categories), tmp_path, False)
    dataset_dir = shared_dir / "data" / "coco_panoptic_sample"
    arguments = ["--model_name_or_path", tmp_path, "--dataset_dir", dataset_dir, "--split", "val2017", "--use_cpu"]
    with pytest.raises(ValueError, match=r"\(10\).*\(133\)"):
        run_script(monkeypatch, "evaluate.py", *arguments)
