"""
The pages' `accelerate launch` lines with their true number of processes, on the CPU: up to 16 processes, two nodes.

What a line is given besides what it says: `--use_cpu`, a tiny network, one step, small photos, no workers that load, shards
of one photo; a free port; and two nodes are two launches on this machine. Stand-ins for what a user would have trained or
downloaded are tiny or of made-up weights. With FSDP2 a script of the tests stands before `train.py`, as Accelerate itself
turns FSDP off on a CPU.
"""

import json
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import psutil
import pytest
from accelerate.utils.other import get_free_port

from training_runs import launch, log_of
from zoo_pages import TINY_EVALUATION, TINY_TRAINING, commands_of, make_workplace, run_script, save_stand_in

pytestmark = pytest.mark.slow
COUNTS = {"train": 3, "val": 9}
LONGEST = 60 * 60
"""Seconds for one line; 16 processes that import torch on two busy cores take many minutes."""
TRAIN_WITH_FSDP = Path(__file__).with_name("train_with_fsdp.py")
ADDED = {
    "train.py": (*TINY_TRAINING, "--logging_steps", "1"),
    TRAIN_WITH_FSDP.name: (*TINY_TRAINING, "--logging_steps", "1"),
    "evaluate.py": TINY_EVALUATION,
    "evaluate_instances.py": ("--use_cpu", "--scales", "48"),
    "predict_dataset.py": ("--use_cpu", "--shard_size", "1"),
}


@pytest.fixture
def workplace(shared_dir, photos, tmp_path, monkeypatch):
    """Makes the folder of a page's dataset, to stand in."""
    monkeypatch.chdir(tmp_path)
    return partial(make_workplace, tmp_path, photos=photos, reference=shared_dir / "reference", counts=COUNTS)


@pytest.mark.parametrize("dataset", ["coco", "cityscapes", "ade20k", "mapillary"])
def test_training_lines(dataset, workplace):
    """4, 8 and 16 processes make the same first step; one GPU's four passes differ, as the neck's norms see a quarter."""
    workplace(dataset)
    commands = commands_of(dataset)
    prepare(commands, "arrange_dataset.py")
    lines = [command for command in commands if script_of(command) == "train.py"]
    counts = [1, 4, 8, 16] if dataset == "coco" else [1, 4]
    losses = []
    for count, command in zip(counts, lines, strict=False):
        assert run_line(command) == count
        folder = output_of(command)
        record = json.loads((folder / "run.json").read_text())
        assert record["num_processes"] == count and record["steps"] == 1
        losses.append(log_of(folder)[0]["loss"])
        shutil.rmtree(folder)  # the lines of a page continue one run; with another number of processes they may not
    assert losses[1:] == pytest.approx([losses[1]] * (len(counts) - 1), rel=1e-4)
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


def test_evaluation_lines_of_coco(workplace):
    """Eight processes give the scores that one gives."""
    workplace("coco")
    commands = commands_of("coco")
    prepare(commands, "arrange_dataset.py", "convert_checkpoint.py")
    save_stand_in(Path("runs/coco/best"), threshold=0.0)
    lines = [command for command in commands if script_of(command).startswith("evaluate")]
    assert [script_of(command) for command in lines] == ["evaluate.py"] * 3 + ["evaluate_instances.py"]
    for number, command in enumerate(lines):
        assert run_line(command) == 8
        alone = run_alone(command, Path(f"alone{number}"))
        scores, expected = (json.loads((folder / "scores.json").read_text()) for folder in (output_of(command), alone))
        assert scores["num_images"] == COUNTS["val"]
        assert {**scores, "seconds": 0} == {**expected, "seconds": 0}


def test_prediction_line_of_scale(workplace):
    """Nine shards of a photo each, eight processes: the files that one process writes."""
    workplace("coco")
    prepare(commands_of("coco"), "arrange_dataset.py")
    save_stand_in(Path("checkpoints/yoso-r50-coco"), threshold=0.0)
    (command,) = (line for line in commands_of("scale") if script_of(line) == "predict_dataset.py")
    assert run_line(command) == 8
    alone = run_alone(command, Path("alone"))
    assert len(list(output_of(command).rglob("*.png"))) == COUNTS["val"]
    for file in alone.rglob("*"):
        if file.is_file():
            assert (output_of(command) / file.relative_to(alone)).read_bytes() == file.read_bytes()


def test_training_lines_of_scale(workplace):
    """FSDP2 on two nodes of eight, and a stream of eight shards read by eight processes."""
    workplace("coco", counts={"train": 16, "val": 2})
    prepare(commands_of("coco"), "arrange_dataset.py")
    shards = next(command for command in commands_of("scale") if script_of(command) == "make_shards.py")
    run_script("make_shards.py", [*shards[2:], "--shard_size", "2"])
    sharded, streamed = [line for line in commands_of("scale") if script_of(line) == "train.py"][:2]
    place = sharded.index("scripts/train.py")
    for count, command in ((16, [*sharded[:place], str(TRAIN_WITH_FSDP), *sharded[place + 1 :]]), (8, streamed)):
        assert run_line(command) == count
        record = json.loads((output_of(command) / "run.json").read_text())
        assert record["num_processes"] == count and record["steps"] == 1
        assert log_of(output_of(command))[0]["loss"] > 0


def prepare(commands: list[list[str]], *scripts: str) -> None:
    """Runs the page's commands of these scripts."""
    for command in commands:
        if script_of(command) in scripts:
            run_script(script_of(command), command[2:])


def script_of(command: list[str]) -> str:
    return Path(next(part for part in command if part.endswith(".py"))).name


def output_of(command: list[str]) -> Path:
    return Path(command[command.index("--output_dir") + 1])


def run_alone(command: list[str], output_dir: Path) -> Path:
    """Runs the line's script in this process."""
    script = script_of(command)
    arguments = command[command.index(f"scripts/{script}") + 1 :]
    run_script(script, [*arguments, *ADDED[script], "--output_dir", str(output_dir)])
    return output_dir


def launches_of(command: list[str]) -> list[list[str]]:
    """The line as this machine can run it, once for each of its machines."""
    arguments = [*command[2:], *ADDED[script_of(command)]]
    options = {"--main_process_ip": "127.0.0.1", "--main_process_port": str(get_free_port())}
    if "--machine_rank" not in arguments:
        return [["--main_process_port", options["--main_process_port"], *arguments]]
    for name, value in options.items():
        arguments[arguments.index(name) + 1] = value
    rank = arguments.index("--machine_rank") + 1
    assert arguments[rank] == "0"
    return [[*arguments[:rank], machine_rank, *arguments[rank + 1 :]] for machine_rank in ("0", "1")]


def run_line(command: list[str]) -> int:
    """Runs a line of a page on all its machines; gives the number of processes that ran the script at once."""
    started = time.monotonic()
    machines, outputs = [], []
    for arguments in launches_of(command):
        outputs.append(Path(f"machine{len(machines)}.log"))
        with outputs[-1].open("w") as log:
            machines.append(launch([sys.executable, "-m", "accelerate.commands.launch", *arguments], stdout=log))
    try:
        most = 0
        while any(machine.poll() is None for machine in machines) and not any(machine.poll() for machine in machines):
            assert time.monotonic() < started + LONGEST, "".join(output.read_text() for output in outputs)[-3000:]
            most = max(most, sum(count_processes(machine, script_of(command)) for machine in machines))
            time.sleep(1)
    finally:
        stop(machines)
    for machine, output in zip(machines, outputs, strict=True):
        assert machine.returncode == 0, output.read_text()[-5000:]
    print(f"{script_of(command)}: {most} processes, {time.monotonic() - started:.0f} s")
    return most


def count_processes(machine: subprocess.Popen, script: str) -> int:
    """Of this launch, those that run the script and not the launcher."""
    try:
        children = psutil.Process(machine.pid).children(recursive=True)
        return sum(any(part.endswith(script) for part in child.cmdline()) for child in children)
    except psutil.NoSuchProcess:
        return 0


def stop(machines: list[subprocess.Popen]) -> None:
    for machine in machines:
        if machine.poll() is None:
            machine.terminate()  # the launcher ends its processes
            machine.wait(timeout=60)
