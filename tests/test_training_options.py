"""Options of training that lean on other packages: trackers, precision, `torch.compile`."""

from pathlib import Path

import accelerate.tracking
import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from training_runs import few_photos_folder, log_of, small_trainer, training_command
from transformers_yoso.training import command


def train(dataset_dir: Path, output_dir: Path, *arguments: str) -> None:
    """The command, in this process."""
    _, _, *given = training_command(dataset_dir, output_dir, *arguments)
    command.main(given)


def test_tensorboard_gets_losses_learning_rate_and_scores(shared_dir, tmp_path):
    data = few_photos_folder(shared_dir / "data" / "facade", tmp_path / "data", {"train": 4, "val": 1})
    options = ("--max_train_steps", "2", "--per_device_train_batch_size", "2", "--with_tracking")
    train(data, tmp_path / "run", *options, "--report_to", "tensorboard")
    events = EventAccumulator(str(tmp_path / "run" / "training"))
    events.Reload()
    log = log_of(tmp_path / "run")
    for name in ("loss", "stage0_loss_dice", "stage2_loss_cross_entropy", "learning_rate", "eval_pq_all"):
        shown = [(event.step, event.value) for event in events.Scalars(name)]
        assert shown == [(line["step"], pytest.approx(line[name])) for line in log if name in line] and shown, name


def test_tracker_that_is_not_installed_is_named_at_the_start(tmp_path, monkeypatch):
    monkeypatch.setattr(accelerate.tracking, "get_available_trackers", list)
    with pytest.raises(ValueError, match=r"`report_to` wandb.*not installed"):
        train(tmp_path / "no_data", tmp_path / "run", "--with_tracking", "--report_to", "wandb")


def test_unknown_tracker_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match=r"pencil.*tensorboard"):
        train(tmp_path / "no_data", tmp_path / "run", "--with_tracking", "--report_to", "pencil")


def test_float16_on_a_cpu_is_refused(tmp_path):
    with pytest.raises(ValueError, match="fp16 needs a GPU"):
        train(tmp_path / "no_data", tmp_path / "run", "--mixed_precision", "fp16")


@pytest.mark.slow
def test_compiled_network_trains_as_the_eager_one_and_resumes(photos, tmp_path):
    options = {"max_train_steps": 3, "checkpointing_steps": 2, "learning_rate": 1e-4}
    for name, changes in {
        "eager": {},
        "compiled": {"torch_compile": True},
        "resumed": {"torch_compile": True, "resume_from_checkpoint": str(tmp_path / "compiled/checkpoint-00000002")},
    }.items():
        small_trainer(photos, tmp_path / name, **options, **changes).train()
        AcceleratorState._reset_state(reset_partial_state=True)
    losses = {
        name: [line["loss"] for line in log_of(tmp_path / name) if "loss" in line]
        for name in ("eager", "compiled", "resumed")
    }
    assert losses["compiled"] == pytest.approx(losses["eager"], rel=1e-5)
    assert losses["resumed"] == losses["compiled"][2:]
    eager, compiled, resumed = (
        load_file(tmp_path / name / "checkpoint-00000003/model.safetensors") for name in losses
    )
    assert compiled.keys() == eager.keys()
    for name, tensor in compiled.items():
        assert torch.equal(resumed[name], tensor), name
