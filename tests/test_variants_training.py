"""The combined variant of the paper's ablations, chosen on the command line, trains on photos of facades."""

from pathlib import Path

import pytest

from training_runs import few_photos_folder, launch, log_of, training_command
from transformers_yoso.models.configuration_yoso import YosoConfig
from transformers_yoso.training import parse_arguments

VARIANT = {
    "aggregator_type": "ifa",
    "attention_type": "dca",
    "num_attention_blocks": 3,
    "dynamic_kernel_size": 5,
    "num_stages": 3,
    "num_queries": 150,
}
ARGUMENTS = [text for name, value in VARIANT.items() for text in (f"--{name}", str(value))]


def test_loss_falls_in_50_steps(shared_dir: Path, tmp_path: Path) -> None:
    data = few_photos_folder(shared_dir / "data" / "facade", tmp_path / "data", {"train": 4, "val": 1})
    steps = ("--max_train_steps", "50", "--per_device_train_batch_size", "2", "--learning_rate", "1e-3")
    steps += ("--max_grad_norm", "1", "--scale_range", "0.5", "1", "--eval_steps", "50", "--temperature", "1")
    training = launch(training_command(data, tmp_path / "run", *steps, *ARGUMENTS))
    output, _ = training.communicate()
    assert training.returncode == 0, output
    losses = [line["loss"] for line in log_of(tmp_path / "run") if "loss" in line]
    assert len(losses) == 50
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])
    config = YosoConfig.from_pretrained(tmp_path / "run" / "best")
    assert {name: getattr(config, name) for name in VARIANT} == VARIANT


@pytest.mark.parametrize(
    ("argument", "known"), [("--aggregator_type", ("cfa", "ifa")), ("--attention_type", ("sdca", "mhca", "ddca"))]
)
def test_unknown_variants_are_refused(argument: str, known: tuple[str, ...], capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        parse_arguments([argument, "other", "--output_dir", "run"])
    message = capsys.readouterr().err.splitlines()[-1]
    assert "other" in message and all(name in message for name in known)
