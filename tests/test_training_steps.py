"""Steps of training: exact losses of a global batch, precision, divergence."""

import math

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from torch import nn

from training_runs import FewPhotos, log_of, small_trainer
from transformers_yoso.training import (
    TrainingDiverged,
    checkpointing,
)
from transformers_yoso.training.loss_normalization import loss_shares, share_of_losses


def labels_of(*counts: int) -> list[torch.Tensor]:
    return [torch.zeros(count, dtype=torch.int64) for count in counts]


def test_shares_give_the_mean_over_the_global_batch():
    """Losses of passes of unlike weight, put together by their shares, are those of one pass over all images."""
    accelerator = Accelerator(cpu=True)
    passes = [labels_of(3, 0), labels_of(30, 1)]  # the image with 30 segments matches all of its 20 queries
    shares = loss_shares(passes, num_queries=20, no_object_weight=0.1, accelerator=accelerator)
    weights = [3 + 17 * 0.1 + 20 * 0.1, 20 + 1 + 19 * 0.1]
    sums = [5.0, 7.0]
    losses = [
        share_of_losses(
            {"stage1_loss_cross_entropy": torch.tensor(total / weight), "stage1_loss_mask": torch.tensor(2.0)}, factor
        )
        for total, weight, factor in zip(sums, weights, shares.class_factors, strict=True)
    ]
    mean = sum(loss["stage1_loss_cross_entropy"] for loss in losses) / len(passes)
    assert mean.item() == pytest.approx(sum(sums) / sum(weights)) and losses[0]["stage1_loss_mask"] == 2
    assert shares.num_masks == (3 + 0 + 30 + 1) / 2


def test_accumulated_passes_equal_one_pass(photos, tmp_path):
    """With norms that do not depend on the batch, two passes of two photos are one of four, in loss and weights."""
    trainers = [
        small_trainer(
            photos,
            tmp_path / str(passes),
            gradient_accumulation_steps=passes,
            total_train_batch_size=4,
            per_device_train_batch_size=None,
        )
        for passes in (1, 2)
    ]
    losses = []
    for trainer in trainers:
        trainer.train_dataset = FewPhotos(photos, 20)
        trainer._start()
        trainer.model.train()
        for module in trainer.model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        batches = iter(trainer.batches)
        passes = [next(batches) for _ in range(trainer.options.gradient_accumulation_steps)]
        losses.append(trainer.take_step(passes, step=1))
    assert losses[0].keys() == losses[1].keys() and losses[0]["loss"] > 0
    for name, value in losses[0].items():
        torch.testing.assert_close(losses[1][name], value, rtol=1e-5, atol=1e-6)
    for (name, whole), part in zip(trainers[0].model.named_parameters(), trainers[1].model.parameters(), strict=True):
        torch.testing.assert_close(part, whole, rtol=1e-5, atol=1e-5, msg=name)


def test_loss_falls_in_bfloat16(photos, tmp_path):
    trainer = small_trainer(
        photos, tmp_path, max_train_steps=30, mixed_precision="bf16", checkpointing_steps=100, max_grad_norm=1.0
    )
    trainer.train()
    losses = [line["loss"] for line in log_of(tmp_path) if "loss" in line]
    assert all(math.isfinite(loss) for loss in losses) and np.mean(losses[-5:]) < 0.75 * np.mean(losses[:3])
    weights = trainer.shipped_model().state_dict().values()
    assert {tensor.dtype for tensor in weights} <= {torch.float32, torch.int64}


def poison_third_step(trainer) -> None:
    """Makes the photos of step 3 not a number, as an overflow would."""
    take_step = trainer.take_step
    undo = take_step.undo

    def poisoned(batches, step):
        if step == 3:
            batches[0]["pixel_values"][0] = math.nan
        return take_step(batches, step)

    trainer.take_step = poisoned
    poisoned.undo = undo


def test_nan_stops_the_run_names_the_photos_and_keeps_the_last_good_step(photos, tmp_path):
    whole = small_trainer(photos, tmp_path / "whole", max_train_steps=2, lr_scheduler_type="constant")
    whole.train()
    AcceleratorState._reset_state(reset_partial_state=True)
    options = {"max_train_steps": 4, "lr_scheduler_type": "constant", "checkpointing_steps": 100}
    trainer = small_trainer(photos, tmp_path / "nan", **options)
    poison_third_step(trainer)
    with pytest.raises(TrainingDiverged, match=r"step 3.*cross_entropy.*\.jpg.*checkpoint-00000002"):
        trainer.train()
    kept = checkpointing.list_checkpoints(tmp_path / "nan")
    assert [folder.name for folder in kept] == ["checkpoint-00000002"]
    weights = load_file(kept[0] / "model.safetensors")
    for name, tensor in load_file(tmp_path / "whole" / "checkpoint-00000002" / "model.safetensors").items():
        assert torch.equal(weights[name], tensor), name  # statistics of norms among them
    AcceleratorState._reset_state(reset_partial_state=True)
    resumed = small_trainer(photos, tmp_path / "nan", resume_from_checkpoint="latest", **options)
    resumed.train()
    assert resumed.step == 4


def test_weights_that_are_not_finite_are_not_kept(photos, tmp_path):
    trainer = small_trainer(photos, tmp_path, max_train_steps=3, checkpointing_steps=1)
    take_step = trainer.take_step

    def poisoned(batches, step):
        if step == 3:
            torch.nn.init.constant_(trainer.model.class_branches[0].classifier.bias, math.nan)
            (trainer.output_dir / "checkpoint-00000002").rename(trainer.output_dir / "moved")
        return take_step(batches, step)

    poisoned.undo = take_step.undo
    trainer.take_step = poisoned
    with pytest.raises(TrainingDiverged, match="weights themselves are not finite"):
        trainer.train()
    assert [folder.name for folder in checkpointing.list_checkpoints(tmp_path)] == ["checkpoint-00000001"]
