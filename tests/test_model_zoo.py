"""Every command of the model-zoo pages runs, on tiny data in the datasets' official layouts and made-up weights."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from huggingface_hub import ModelCard

from training_runs import launch
from transformers_yoso.conversion.dataset_specs import DATASET_SPECS
from transformers_yoso.training import parse_arguments
from zoo_pages import PAGES, TINY_EVALUATION, TINY_TRAINING, commands_of, make_workplace, run_script, save_stand_in


def as_script(command: list[str]) -> tuple[str, list[str], int]:
    """Name and arguments of the script, and the number of processes that Accelerate would start."""
    if command[0] == "python":
        return Path(command[1]).name, command[2:], 1
    assert command[:2] == ["accelerate", "launch"]
    arguments = launch_command_parser().parse_args(command[2:])
    arguments, _, _ = _validate_launch_command(arguments)
    return Path(arguments.training_script).name, arguments.training_script_args, arguments.num_processes


def check_or_train(arguments: list[str], num_processes: int, run: bool) -> None:
    """Trains a step with a tiny network, or only resolves the run that these processes would make."""
    parsed = parse_arguments(arguments).resolved(1000, num_processes)
    assert parsed.optimization.total_train_batch_size == 16 and parsed.model.backbone == "resnet50"
    if run:
        run_script("train.py", [*arguments, *TINY_TRAINING])


@pytest.fixture
def workplace(shared_dir, photos, tmp_path, monkeypatch):
    """Makes the folder of a page's dataset, to stand in."""
    monkeypatch.chdir(tmp_path)
    return partial(make_workplace, tmp_path, photos=photos, reference=shared_dir / "reference")


@pytest.mark.parametrize(
    "dataset",
    ["coco", "cityscapes", *(pytest.param(name, marks=pytest.mark.slow) for name in ("ade20k", "mapillary"))],
)
def test_commands_of_the_page_of_a_dataset(dataset, workplace):
    workplace(dataset)
    trained_with, names = [], []
    for command in commands_of(dataset):
        name, arguments, num_processes = as_script(command)
        names.append(name)
        if name == "train.py":
            check_or_train(arguments, num_processes, run=not trained_with)
            trained_with.append(num_processes)
        elif name == "evaluate.py":
            run_script(name, [*arguments, *TINY_EVALUATION])
        elif name == "evaluate_instances.py":
            run_script(name, [*arguments, "--use_cpu", "--scales", "48"])
        else:
            run_script(name, arguments)
    assert trained_with == [1, 4, 8, 16]
    assert {"arrange_dataset.py", "check_data.py", "convert_checkpoint.py", "evaluate.py"} <= set(names)
    check_converted(dataset, Path(f"checkpoints/yoso-r50-{dataset}"))


def check_converted(dataset: str, folder: Path) -> None:
    """A complete folder whose card gives the paper's PQ as the paper's; the page gives the same."""
    spec, page = DATASET_SPECS[dataset], (PAGES / f"{dataset}.md").read_text()
    expected = {"config.json", "preprocessor_config.json", "model.safetensors", "README.md", "modeling_yoso.py"}
    assert expected <= {path.name for path in folder.iterdir()}
    card = ModelCard.load(folder / "README.md")
    assert [result.metric_value for result in card.data.eval_results] == list(spec.panoptic_quality.values())
    for result in card.data.eval_results:
        assert result.source_url == "https://arxiv.org/abs/2303.14651" and "not measured here" in result.metric_name
    rows = [f"| {shortest}, {longest} | {quality} |" for (shortest, longest), quality in spec.panoptic_quality.items()]
    assert all(row in page.splitlines() for row in rows)


def test_commands_of_the_page_on_scale(workplace, capsys):
    workplace("coco")
    run_script(*as_script(commands_of("coco")[0])[:2])
    save_stand_in(Path("checkpoints/yoso-r50-coco"))
    names = []
    for command in commands_of("scale"):
        name, arguments, num_processes = as_script(command)
        names.append(name)
        if "--use_cpu" in arguments:
            dry_run(command)
        elif name == "train.py":
            check_or_train(arguments, num_processes, run=False)
        elif name == "predict_dataset.py":
            run_script(name, [*arguments, "--use_cpu"])
        elif name == "benchmark_data.py":
            tiny = ("--crop_size", "64", "--num_batches", "1", "--num_steps", "1", "--num_rounds", "1", "--use_cpu")
            run_script(name, [*arguments, *tiny, "--dataloader_num_workers", "0"])
        else:
            run_script(name, arguments)
    assert names.count("train.py") == 3 and names[-2:] == ["estimate_schedule.py"] * 2
    assert capsys.readouterr().out.endswith(f"\n{calculation_of_the_page()}")
    assert len(json.loads(Path("outputs/coco-predicted/panoptic.json").read_text())["images"]) == 1


def calculation_of_the_page() -> str:
    """What the page says that its last command prints."""
    _, heading, rest = (PAGES / "scale.md").read_text().partition("**Calculation**")
    return heading + rest


def dry_run(command: list[str]) -> None:
    """The command as it stands, by two processes."""
    process = launch([sys.executable, "-m", "accelerate.commands.launch", "--main_process_port", "0", *command[2:]])
    try:
        output, _ = process.communicate(timeout=600)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert process.returncode == 0, output[-3000:]
    record = json.loads(Path("runs/dry-run/run.json").read_text())
    assert record["num_processes"] == 2 and record["steps"] == 2
