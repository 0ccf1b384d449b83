"""The README: every Python block and every command of its shell blocks runs, in order, on a few real photos."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import timm
from safetensors.torch import save_file

from official_checkpoint import write_official_checkpoint
from training_runs import ROOT, TINY_NETWORK, few_photos_folder
from transformers_yoso.data import CocoPanopticDataset

TINY_TRAINING = (
    *TINY_NETWORK,
    *("--use_cpu", "--mixed_precision", "no", "--max_train_steps", "1", "--total_train_batch_size", "2"),
    *("--image_size", "64", "--validation_size", "64", "96"),
)
TINY_BENCHMARK = (
    *("--sizes", "64x96", "--rounds", "1", "--variants", "plain", "fused", "--skip_accuracy"),
    *("--tolerance", "100"),  # one measurement of a tiny picture says nothing of speed
)
QUICKER = {
    "scripts/train.py": TINY_TRAINING,
    "scripts/benchmark.py": TINY_BENCHMARK,
    "scripts/evaluate.py": ("--use_cpu", "--size", "64", "96"),
    "scripts/analyse_errors.py": ("--use_cpu",),
    "scripts/demo_app.py": ("--help",),
}
"""Arguments that the test adds, so that a command takes seconds."""
QUICKER_PYTHON = {
    "max_steps=2000": "max_steps=1, use_cpu=True, per_device_train_batch_size=2, report_to='none'",
    "TrainingAugmentation(512": "TrainingAugmentation(64",
}
"""What the test changes in Python blocks."""


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def shell_commands() -> list[list[str]]:
    lines = "".join(blocks("bash")).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.strip()]


@pytest.fixture(scope="module")
def workplace(shared_dir, tmp_path_factory) -> Path:
    """A folder with what the README takes for granted: the clone, photos of one's own, weights, an official file."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "checkpoints").mkdir()
    for name in ("scripts", "assets", "src", "Makefile", "pyproject.toml", "checkpoints/yoso-lite0-facade"):
        (folder / name).symlink_to(ROOT / name)
    few_photos_folder(shared_dir / "data" / "facade", folder / "DATA", {"train": 4, "val": 2})
    photos = CocoPanopticDataset.from_folder(folder / "DATA", "val")
    (folder / "photos").mkdir()
    for name in photos.image_names:
        shutil.copy(photos.image_folder / name, folder / "photos")
    for name in ("photo.jpg", "my_photo.jpg"):
        shutil.copy(photos.image_folder / photos.image_names[0], folder / name)
    return folder


def run(command: list[str], folder: Path) -> None:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"


def prepare(command: list[str], workplace: Path) -> list[str]:
    """The command as a process, with what makes it quick."""
    if command[0] == "yoso":
        return [sys.executable, "-m", "transformers_yoso_cli", *command[1:]]
    if command[0] == "accelerate":
        return [sys.executable, "-m", "accelerate.commands.accelerate_cli", *command[1:], *QUICKER.get(command[2], ())]
    assert command[0] == "python", command
    return [sys.executable, *command[1:], *QUICKER.get(command[1], ())]


@pytest.mark.slow
def test_commands_run_in_order(workplace, shared_dir):
    pytest.importorskip("onnxruntime")
    weights = timm.create_model("test_resnet").state_dict()
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, workplace / "timm_weights.safetensors")
    write_official_checkpoint("coco", shared_dir / "reference", workplace / "yoso_res50_coco.pth")
    frames = ("photo.jpg", "--output", "video.mp4", "--seconds", "0.2", "--size", "128", "96")
    run([sys.executable, "scripts/make_test_video.py", *frames], workplace)
    commands = shell_commands()
    assert len(commands) > 12
    for command in commands:
        if command[0] == "make":
            run([*command, "--dry-run"], workplace)
        else:
            run(prepare(command, workplace), workplace)
    assert (workplace / "outputs" / "photo_overlay.jpg").is_file() and (workplace / "segments.png").is_file()
    assert (workplace / "runs" / "mine" / "best" / "README.md").is_file()


def test_python_blocks_run_in_order(workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    names: dict[str, object] = {}
    for block in blocks("python"):
        for text, quicker in QUICKER_PYTHON.items():
            block = block.replace(text, quicker)
        exec(compile(block, "README.md", "exec"), names)
    assert (workplace / "overlay.png").is_file()
    assert names["trainer"].state.global_step == 1
    assert names["model"].get_nb_trainable_parameters()[0] > 0
