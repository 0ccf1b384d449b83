"""Checkpoints: whole or absent, resumed to the bit, kept on a full disk."""

import errno
import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from training_runs import few_photos_folder, launch, log_of, small_trainer, training_command
from transformers_yoso.models.modeling_yoso import YosoForUniversalSegmentation
from transformers_yoso.training import (
    CheckpointWriteError,
    checkpointing,
)


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
        seed_of_model=9,
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


def test_full_disk_keeps_the_last_good_checkpoint(photos, tmp_path, monkeypatch):
    """The disk fills up in the middle of the second checkpoint; the run goes on from the first when there is room."""
    options = {"max_train_steps": 4, "checkpointing_steps": 2}
    whole = small_trainer(photos, tmp_path / "whole", **options)
    whole.train()
    AcceleratorState._reset_state(reset_partial_state=True)
    trainer = small_trainer(photos, tmp_path / "full", **options)
    save = torch.save

    def save_until_full(content, file, *arguments, **keywords):
        if "00000004" in str(file):
            Path(file).write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        return save(content, file, *arguments, **keywords)

    monkeypatch.setattr(torch, "save", save_until_full)
    with pytest.raises(CheckpointWriteError, match=r"checkpoint-00000004.*No space left.*MiB free.*00000002, takes"):
        trainer.train()
    monkeypatch.undo()
    names = {path.name for path in (tmp_path / "full").iterdir()}
    assert "checkpoint-00000002" in names and not any("00000004" in name for name in names)
    AcceleratorState._reset_state(reset_partial_state=True)
    resumed = small_trainer(photos, tmp_path / "full", resume_from_checkpoint="latest", **options)
    resumed.train()
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name


def test_checkpoint_opens_as_a_model(photos, tmp_path):
    trainer = small_trainer(photos, tmp_path, max_train_steps=1)
    trainer.train()
    opened = YosoForUniversalSegmentation.from_pretrained(tmp_path / "checkpoint-00000001")
    for name, tensor in trainer.model.state_dict().items():
        assert torch.equal(opened.state_dict()[name], tensor), name
    arguments = json.loads((tmp_path / "checkpoint-00000001" / "arguments.json").read_text())
    for folder in ("best", "."):
        assert json.loads((tmp_path / folder / "arguments.json").read_text()) == arguments
        assert "PQ" in (tmp_path / folder / "README.md").read_text()


def train_and_die(photos, output_dir: Path, moment: str) -> None:
    """Trains in a child process that is killed (SIGKILL) at `moment`."""

    def die(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    trainer = small_trainer(photos, output_dir, resume_from_checkpoint="latest")
    finish_folder = checkpointing._finish_folder
    if moment == "save":
        checkpointing._finish_folder = lambda part, target: (
            die() if "04" in target.name else finish_folder(part, target)
        )
    else:
        checkpointing.rotate_checkpoints = die
    trainer.train()


def test_killed_run_ends_with_the_same_bits(photos, tmp_path):
    """Killed in a save and between save and rotation; the last run ends as one that was never stopped."""
    whole = small_trainer(photos, tmp_path / "whole")
    whole.train()
    for moment in ("save", "rotation"):
        arguments = (photos, tmp_path / "killed", moment)
        child = multiprocessing.get_context("spawn").Process(target=train_and_die, args=arguments)
        child.start()
        child.join()
        assert child.exitcode == -signal.SIGKILL
        AcceleratorState._reset_state(reset_partial_state=True)
    resumed = small_trainer(photos, tmp_path / "killed", resume_from_checkpoint="latest")
    resumed.train()
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name


@pytest.mark.slow
def test_five_kills_at_random_moments(shared_dir, tmp_path):
    """The script itself, killed five times, once of them while it saves."""
    data = few_photos_folder(shared_dir / "data" / "facade", tmp_path / "data", {"train": 12, "val": 2})
    options = ("--max_train_steps", "40", "--per_device_train_batch_size", "2", "--checkpointing_steps", "3")
    options += ("--eval_steps", "20", "--resume_from_checkpoint", "latest", "--ema_decay", "0.9")
    whole = launch(training_command(data, tmp_path / "whole", *options))
    assert whole.wait(timeout=600) == 0, whole.stdout.read()
    output_dir, moments = tmp_path / "killed", np.random.default_rng(0).uniform(0, 4, 5)
    for number, moment in enumerate(moments):
        run = launch(training_command(data, output_dir, *options))
        steps = len(checkpointing.list_checkpoints(output_dir)) and checkpointing.checkpoint_step(
            checkpointing.list_checkpoints(output_dir)[-1]
        )
        while run.poll() is None and not _has_passed(output_dir, steps, is_saving=number == 2):
            time.sleep(0.001)
        time.sleep(0 if number == 2 else moment)
        run.kill()
        run.wait()
    last = launch(training_command(data, output_dir, *options))
    assert last.wait(timeout=600) == 0, last.stdout.read()
    for name in ("model.safetensors", "checkpoint-00000040/model.safetensors"):
        expected, actual = load_file(tmp_path / "whole" / name), load_file(output_dir / name)
        assert all(torch.equal(actual[key], tensor) for key, tensor in expected.items())


def _has_passed(output_dir: Path, steps: int, is_saving: bool) -> bool:
    """Whether a run that resumed at `steps` has logged a further step, or is in the middle of saving."""
    if is_saving:
        return any(output_dir.glob(".unfinished-checkpoint-*/*"))
    return (output_dir / "log.jsonl").is_file() and f'"step": {steps + 1},' in (output_dir / "log.jsonl").read_text()
