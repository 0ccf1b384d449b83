"""Training: parameter groups, schedules, averaging, backbone weights, whole checkpoints, exact resume, first steps."""

import json
import math
import runpy
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import timm
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.data import Subset
from transformers import TimmBackboneConfig

from transformers_yoso.data import CategoryTable, CocoPanopticDataset, PanopticSample
from transformers_yoso.models.configuration_yoso import YosoConfig
from transformers_yoso.models.image_processing_yoso import YosoImageProcessor
from transformers_yoso.models.modeling_yoso import YosoForUniversalSegmentation
from transformers_yoso.training import (
    DataArguments,
    ModelArguments,
    OptimizationArguments,
    PanopticTrainer,
    TrainingDiverged,
    TrainingRun,
    build_image_processor,
    build_model,
    checkpointing,
    evaluate_panoptic,
    format_table,
    save_model_folder,
)
from transformers_yoso.training.backbone_weights import load_backbone_weights
from transformers_yoso.training.ema import ExponentialMovingAverage
from transformers_yoso.training.json_log import JsonLinesLog
from transformers_yoso.training.parameter_groups import build_parameter_groups
from transformers_yoso.training.schedules import build_schedule
from transformers_yoso.training.speed import prepare_for_speed


@pytest.fixture(autouse=True)
def fresh_accelerate():
    """Accelerate keeps its settings in process-wide state; every test starts without."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    PartialState._reset_state()


@pytest.fixture(scope="module")
def photos(shared_dir) -> CocoPanopticDataset:
    return CocoPanopticDataset.from_folder(shared_dir / "data" / "facade", "val")


def small_model(categories: CategoryTable, seed: int = 0) -> YosoForUniversalSegmentation:
    torch.manual_seed(seed)
    config = YosoConfig(
        backbone_config=TimmBackboneConfig(backbone="resnet18", out_indices=[1, 2, 3, 4], freeze_batch_norm_2d=True),
        pyramid_channels=[16, 16, 16, 16],
        aggregation_dim=16,
        hidden_dim=32,
        feedforward_dim=32,
        num_queries=20,
        train_num_points=128,
        id2label=categories.id2label,
        stuff_label_ids=categories.stuff_label_ids,
    )
    return YosoForUniversalSegmentation(config)


def small_run(output_dir, **changes) -> TrainingRun:
    optimization = {
        "output_dir": str(output_dir),
        "use_cpu": True,
        "max_train_steps": 4,
        "per_device_train_batch_size": 2,
        "learning_rate": 1e-3,
        "logging_steps": 1,
        "eval_steps": 100,
        "checkpointing_steps": 2,
        **changes,
    }
    data = DataArguments(dataset_dir="unused", image_size=64, validation_size=[96, 160])
    return TrainingRun(ModelArguments(object_threshold=0.0), data, OptimizationArguments(**optimization))


def small_trainer(photos, output_dir, model=None, num_validation=1, **changes) -> PanopticTrainer:
    run = small_run(output_dir, **changes)
    model = small_model(photos.categories) if model is None else model
    image_processor = build_image_processor(run.model, run.data, photos.categories)
    accelerator = Accelerator(cpu=True, mixed_precision=run.optimization.mixed_precision)
    training, validation = Subset(photos, range(5)), Subset(photos, range(num_validation))
    return PanopticTrainer(model, image_processor, training, validation, run, accelerator)


def log_of(output_dir) -> list[dict]:
    return [json.loads(line) for line in (output_dir / "log.jsonl").read_text().splitlines()]


# --- parts ----------------------------------------------------------------------------------------------------------


def test_every_parameter_is_in_the_group_of_the_recipe(photos):
    model = small_model(photos.categories)
    groups = {group["name"]: group for group in build_parameter_groups(model, 1e-3, 0.1, 0.05)}
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    members = {group: [names[id(parameter)] for parameter in groups[group]["params"]] for group in groups}
    assert sorted(name for group in members.values() for name in group) == sorted(names.values())
    assert all("backbone" in name for group in members if group.startswith("backbone") for name in members[group])
    assert not any("backbone" in name for name in members["head_weight"] + members["head_norm"])
    norms = {name for name, module in model.named_modules() if isinstance(module, nn.LayerNorm | nn.BatchNorm2d)}
    assert {name.rsplit(".", 1)[0] for name in members["head_norm"]} == norms
    assert any(name.endswith("bias") for name in members["head_weight"])
    settings = {name: (group["lr"], group["weight_decay"]) for name, group in groups.items()}
    assert settings == {"head_weight": (1e-3, 0.05), "head_norm": (1e-3, 0.0), "backbone_weight": (1e-4, 0.05)}


@pytest.mark.parametrize("backbone", ["convnext_atto", "swin_tiny_patch4_window7_224"])
def test_norms_of_other_backbones_do_not_decay(backbone):
    model = nn.ModuleDict({"backbone": timm.create_model(backbone, features_only=True, pretrained=False)})
    groups = {group["name"]: group for group in build_parameter_groups(model, 1.0, 0.5, 0.05)}
    assert set(groups) == {"backbone_norm", "backbone_weight"}
    expected = sum("norm" in name for name, _ in model.named_parameters())
    assert 0 < expected <= len(groups["backbone_norm"]["params"])
    assert groups["backbone_norm"]["weight_decay"] == 0.0


def schedule_factors(name: str, steps: int, **options) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = build_schedule(optimizer, name, steps, **options)
    factors = []
    for _ in range(steps):
        factors.append(optimizer.param_groups[0]["lr"] / 2.0)
        optimizer.step()
        schedule.step()
    return [*factors, optimizer.param_groups[0]["lr"] / 2.0]


def test_schedules():
    poly = schedule_factors("poly", 10, num_warmup_steps=0)
    assert poly == pytest.approx([(1 - step / 10) ** 0.9 for step in range(11)])
    warm = schedule_factors("poly", 10, num_warmup_steps=4)
    assert warm[:5] == pytest.approx([(step + 1) / 5 * poly[step] for step in range(5)]) and warm[5:] == poly[5:]
    step = schedule_factors("step", 8, num_warmup_steps=0, milestones=[3, 6])
    assert step == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01])
    assert schedule_factors("constant", 3, num_warmup_steps=1) == [0.5, 1, 1, 1]
    with pytest.raises(ValueError, match="milestones"):
        schedule_factors("step", 8, num_warmup_steps=0)
    with pytest.raises(ValueError, match="cosine"):
        schedule_factors("cosine", 8, num_warmup_steps=0)


def test_average_of_weights():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = ExponentialMovingAverage(model, decay=0.9)
    expected = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for step in range(30):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        model(torch.randn(4, 2))
        average.update(model)
        decay = min(0.9, (1 + step) / (10 + step))
        for name, tensor in model.state_dict().items():
            keep = 0 if name.endswith("num_batches_tracked") else decay
            expected[name] = (keep * expected[name] + (1 - keep) * tensor).to(tensor.dtype)
    torch.testing.assert_close(dict(average.model.state_dict()), expected)
    assert not average.model.training and not any(p.requires_grad for p in average.model.parameters())
    with pytest.raises(ValueError, match="ema_decay"):
        ExponentialMovingAverage(model, decay=1.0)


def test_log_drops_what_an_interrupted_run_wrote_later(tmp_path):
    log = JsonLinesLog(tmp_path / "log.jsonl")
    for step in (1, 2, 3):
        log.append(step, loss=step / 2)
    with (tmp_path / "log.jsonl").open("a") as stream:
        stream.write('{"step": 4, "lo')
    JsonLinesLog(tmp_path / "log.jsonl", start_step=2).append(3, loss=9.0)
    assert [line["loss"] for line in log_of(tmp_path)] == [0.5, 1.0, 9.0]


# --- backbone weights -----------------------------------------------------------------------------------------------


def test_timm_weights_give_timm_features(shared_dir, photos):
    file = shared_dir / "weights" / "tf_efficientnet_lite0_imagenet_timm.safetensors"
    arguments = ModelArguments(
        backbone="tf_efficientnet_lite0", backbone_weights=str(file), pyramid_channels=[8, 8, 8, 8]
    )
    model = build_model(arguments, photos.categories).eval()
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0).eval()
    network.load_state_dict(load_file(file), strict=False)
    pixels = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network.forward_intermediates(pixels, indices=[1, 2, 3, 4], intermediates_only=True)
        features = model.model.backbone(pixels).feature_maps
    assert [feature.shape[1] for feature in features] == [24, 40, 112, 320]
    for feature, reference in zip(features, expected, strict=True):
        torch.testing.assert_close(feature, reference, rtol=1e-4, atol=1e-4)
    processor = build_image_processor(arguments, DataArguments(dataset_dir="unused"), photos.categories)
    assert list(processor.image_mean) == [0.5, 0.5, 0.5] and list(processor.image_std) == [0.5, 0.5, 0.5]


def test_flattened_names_are_mapped_and_leftovers_reported(tmp_path):
    whole = timm.create_model("convnext_atto", pretrained=False)
    save_file(whole.state_dict(), tmp_path / "convnext.safetensors")
    backbone = timm.create_model("convnext_atto", features_only=True, pretrained=False)
    unused = load_backbone_weights(backbone, tmp_path / "convnext.safetensors")
    assert unused == sorted(name for name in whole.state_dict() if name.startswith("head."))
    assert torch.equal(backbone.stages_1.blocks[0].conv_dw.weight, whole.stages[1].blocks[0].conv_dw.weight)


def test_unfit_backbone_weights_are_named(tmp_path):
    backbone = timm.create_model("resnet18", features_only=True, pretrained=False)
    before = backbone.conv1.weight.clone()
    state = timm.create_model("resnet18", pretrained=False).state_dict()
    removed = state.pop("layer3.0.conv1.weight")
    save_file(state, tmp_path / "incomplete.safetensors")
    with pytest.raises(ValueError, match=r"layer3\.0\.conv1\.weight"):
        load_backbone_weights(backbone, tmp_path / "incomplete.safetensors")
    save_file({**state, "layer3.0.conv1.weight": removed[:4].contiguous()}, tmp_path / "cut.safetensors")
    with pytest.raises(ValueError, match=r"layer3\.0\.conv1\.weight is \(4, 128, 3, 3\)"):
        load_backbone_weights(backbone, tmp_path / "cut.safetensors")
    (tmp_path / "text.safetensors").write_text("no weights")
    with pytest.raises(ValueError, match="not a safetensors file"):
        load_backbone_weights(backbone, tmp_path / "text.safetensors")
    with pytest.raises(FileNotFoundError, match=r"none\.safetensors"):
        load_backbone_weights(backbone, tmp_path / "none.safetensors")
    assert torch.equal(backbone.conv1.weight, before)


def test_fast_cpu_layout_changes_nothing_but_rounding():
    torch.manual_seed(0)
    plain = timm.create_model("tf_efficientnet_lite0", features_only=True, pretrained=False).eval()
    fast = timm.create_model("tf_efficientnet_lite0", features_only=True, pretrained=False).eval()
    fast.load_state_dict(plain.state_dict())
    prepare_for_speed(fast, torch.device("cpu"))
    pixels = torch.randn(2, 3, 64, 64)
    for expected, actual in zip(plain(pixels), fast(pixels), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        assert fast.blocks[0][0].conv_dw(torch.randn(1, 32, 8, 8, dtype=torch.bfloat16)).dtype == torch.float32
        sum(level.float().mean() for level in fast(pixels)).backward()
    assert fast.blocks[0][0].conv_dw.weight.grad.isfinite().all()


# --- checkpoints ----------------------------------------------------------------------------------------------------


def test_failed_write_leaves_the_last_good_folder(tmp_path):
    target = tmp_path / "best"
    checkpointing.write_folder(target, lambda folder: (folder / "weights").write_text("good"))

    def run_out_of_disk(folder):
        (folder / "weights").write_text("ha")
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space"):
        checkpointing.write_folder(target, run_out_of_disk)
    assert (target / "weights").read_text() == "good"
    checkpointing.clean_up(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["best"]
    checkpointing.write_folder(target, lambda folder: (folder / "other").write_text("new"))
    assert [path.name for path in target.iterdir()] == ["other"]


def test_kill_between_the_two_renames_is_mended(tmp_path):
    target = tmp_path / "best"
    checkpointing.write_folder(target, lambda folder: (folder / "weights").write_text("good"))
    target.rename(tmp_path / ".replaced-best")
    checkpointing.clean_up(tmp_path)
    assert (target / "weights").read_text() == "good" and len(list(tmp_path.iterdir())) == 1


def test_rotation_and_latest(tmp_path):
    assert checkpointing.resolve_checkpoint(tmp_path / "new", "latest") is None
    for step in (5, 10, 100, 20):
        checkpointing.checkpoint_folder(tmp_path, step).mkdir()
    (tmp_path / ".unfinished-checkpoint-00000200").mkdir()
    checkpointing.rotate_checkpoints(tmp_path, 2)
    assert [checkpointing.checkpoint_step(folder) for folder in checkpointing.list_checkpoints(tmp_path)] == [20, 100]
    assert checkpointing.resolve_checkpoint(tmp_path, "latest").name == "checkpoint-00000100"
    with pytest.raises(FileNotFoundError, match="nowhere"):
        checkpointing.resolve_checkpoint(tmp_path, "nowhere")


@pytest.mark.parametrize("num_workers", [0, 2])
def test_resumed_run_ends_with_the_same_bits(photos, tmp_path, num_workers):
    options = {"ema_decay": 0.9, "gradient_accumulation_steps": 2, "dataloader_num_workers": num_workers}
    whole = small_trainer(photos, tmp_path / "whole", eval_steps=3, **options)
    whole.train()

    resumed = small_trainer(
        photos,
        tmp_path / "resumed",
        model=small_model(photos.categories, seed=9),
        resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-00000002"),
        **options,
    )
    np.random.seed(77)
    torch.manual_seed(77)
    resumed.train()
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name
    for name, tensor in whole.ema.model.state_dict().items():
        assert torch.equal(tensor, resumed.ema.model.state_dict()[name]), name
    assert not torch.equal(
        whole.model.class_branches[0].classifier.weight, whole.ema.model.class_branches[0].classifier.weight
    )
    losses = [
        {line["step"]: line["loss"] for line in log_of(tmp_path / run) if "loss" in line}
        for run in ("whole", "resumed")
    ]
    assert {step: losses[0][step] for step in (3, 4)} == losses[1]


def test_latest_continues_in_place_and_keeps_the_best(photos, tmp_path):
    first = small_trainer(photos, tmp_path, max_train_steps=3, eval_steps=2, lr_scheduler_type="constant")
    first.train()
    AcceleratorState._reset_state(reset_partial_state=True)
    second = small_trainer(
        photos,
        tmp_path,
        max_train_steps=5,
        eval_steps=2,
        lr_scheduler_type="constant",
        resume_from_checkpoint="latest",
    )
    second.train()
    assert [line["step"] for line in log_of(tmp_path) if "loss" in line] == [1, 2, 3, 4, 5]
    assert [line["step"] for line in log_of(tmp_path) if "eval_pq_all" in line] == [2, 3, 4, 5]
    assert second.best_pq == max(line["eval_pq_all"] for line in log_of(tmp_path) if "eval_pq_all" in line)
    assert [path.name for path in checkpointing.list_checkpoints(tmp_path)] == [
        "checkpoint-00000004",
        "checkpoint-00000005",
    ]
    assert YosoForUniversalSegmentation.from_pretrained(tmp_path / "best").config.num_labels == 10


def test_resume_of_another_run_is_refused(photos, tmp_path):
    small_trainer(photos, tmp_path, max_train_steps=2).train()
    AcceleratorState._reset_state(reset_partial_state=True)
    other = small_trainer(photos, tmp_path, learning_rate=2e-3, resume_from_checkpoint="latest")
    with pytest.raises(ValueError, match=r"learning_rate 0\.001 -> 0\.002"):
        other.train()
    anew = small_trainer(photos, tmp_path)
    log = (tmp_path / "log.jsonl").read_text()
    with pytest.raises(ValueError, match=r"checkpoint-00000002.*starts at step 0"):
        anew.train()
    assert (tmp_path / "log.jsonl").read_text() == log
    state_file = tmp_path / "checkpoint-00000002" / "trainer_state.json"
    state_file.write_text(json.dumps({**json.loads(state_file.read_text()), "num_processes": 4}))
    same = small_trainer(photos, tmp_path, resume_from_checkpoint="latest")
    with pytest.raises(ValueError, match="written by 4 processes"):
        same.train()


# --- steps ----------------------------------------------------------------------------------------------------------


def test_accumulated_passes_give_the_masks_of_the_whole_batch(photos, tmp_path):
    trainer = small_trainer(photos, tmp_path, gradient_accumulation_steps=2)
    batches = iter(trainer._loader())
    batches = [next(batches), next(batches)]
    counts = [sum(map(len, batch["class_labels"])) for batch in batches]
    assert counts[0] != counts[1] and trainer._masks_per_pass(batches) == sum(counts) / 2
    seen = []
    forward = trainer.model.forward
    trainer.model.forward = lambda **inputs: seen.append(inputs["num_items_in_batch"]) or forward(**inputs)
    trainer._optimizer_step(batches)
    assert seen == [sum(counts) / 2] * 2


def test_loss_falls_in_bfloat16(photos, tmp_path):
    trainer = small_trainer(photos, tmp_path, max_train_steps=30, mixed_precision="bf16", max_grad_norm=1.0)
    trainer.train()
    losses = [line["loss"] for line in log_of(tmp_path) if "loss" in line]
    assert all(math.isfinite(loss) for loss in losses) and np.mean(losses[-5:]) < 0.75 * np.mean(losses[:3])
    weights = trainer.shipped_model.state_dict().values()
    assert {tensor.dtype for tensor in weights} <= {torch.float32, torch.int64}


def test_nan_stops_the_run_and_names_the_photos(photos, tmp_path):
    trainer = small_trainer(photos, tmp_path, max_train_steps=3, checkpointing_steps=1)
    take_step = trainer._optimizer_step

    def poisoned_step(batches):
        if trainer.step == 2:
            with torch.no_grad():
                trainer.model.class_branches[0].classifier.bias.fill_(math.nan)
        return take_step(batches)

    trainer._optimizer_step = poisoned_step
    with pytest.raises(TrainingDiverged, match=r"step 3 .*stage1_loss_cross_entropy.*\.jpg"):
        trainer.train()
    kept = checkpointing.list_checkpoints(tmp_path)
    assert [folder.name for folder in kept] == ["checkpoint-00000001", "checkpoint-00000002"]
    weights = load_file(kept[-1] / "model.safetensors")
    assert all(tensor.isfinite().all() for tensor in weights.values())


# --- model folders and evaluation -----------------------------------------------------------------------------------


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
        OptimizationArguments(output_dir="out", max_train_steps=0)


# --- scripts --------------------------------------------------------------------------------------------------------


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
    assert json.loads((tmp_path / "run" / "arguments.json").read_text())["image_size"] == 64
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
