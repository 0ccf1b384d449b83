"""`scripts/demo.py` as a person runs it: in a process of its own."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import TimmBackboneConfig

from transformers_yoso import YosoConfig, YosoForUniversalSegmentation, YosoImageProcessor

ROOT = Path(__file__).resolve().parents[1]
PHOTO = ROOT / "assets" / "facade_demo.jpg"
LABELS = ["window", "car", "facade", "street"]


def run_demo(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "demo.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def random_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with random weights and thresholds so low that it finds something."""
    torch.manual_seed(0)
    config = YosoConfig(
        backbone_config=TimmBackboneConfig(backbone="test_resnet", out_indices=[-4, -3, -2, -1]),
        aggregation_dim=16,
        hidden_dim=32,
        num_queries=20,
        num_attention_heads=4,
        feedforward_dim=64,
        id2label=dict(enumerate(LABELS)),
        label2id={label: index for index, label in enumerate(LABELS)},
    )
    model = YosoForUniversalSegmentation(config)
    for branch in model.class_branches:
        torch.nn.init.zeros_(branch.classifier.bias)
        branch.classifier.bias.data[-1] = -1.0
    processor = YosoImageProcessor(
        size={"shortest_edge": 128, "longest_edge": 256}, threshold=0.0, overlap_mask_area_threshold=0.0
    )
    folder = tmp_path_factory.mktemp("checkpoint")
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def test_demo_prints_segments_and_time_and_writes_the_overlay(random_checkpoint: Path, tmp_path: Path) -> None:
    overlay = tmp_path / "new folder" / "overlay.png"
    done = run_demo(PHOTO, "--checkpoint", random_checkpoint, "--output", overlay)
    assert done.returncode == 0, done.stderr
    rows = re.findall(rf"^({'|'.join(LABELS)}) +([01]\.\d\d) +(\d+) +(\d+\.\d\d)$", done.stdout, re.MULTILINE)
    assert rows, done.stdout
    void = int(re.search(r"^\(void\) +(\d+)", done.stdout, re.MULTILINE).group(1))
    assert sum(int(area) for _, _, area, _ in rows) + void == 512 * 512
    assert re.search(r"Segmented in \d+\.\d\d s", done.stdout)
    picture, photo = np.asarray(Image.open(overlay)), np.asarray(Image.open(PHOTO))
    assert picture.shape == photo.shape and (picture != photo).any()


def test_demo_of_the_shipped_checkpoint_finds_the_building(tmp_path: Path) -> None:
    overlay = tmp_path / "overlay.png"
    done = run_demo("--output", overlay)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^facade +[01]\.\d\d +\d{5}", done.stdout, re.MULTILINE), done.stdout
    assert overlay.exists()


@pytest.mark.parametrize(
    "problem", ["no image", "half an image", "missing", "no weights", "no model", "no picture name"]
)
def test_demo_names_the_problem_in_one_line(problem: str, random_checkpoint: Path, tmp_path: Path) -> None:
    half, empty = tmp_path / "half.jpg", tmp_path / "empty"
    half.write_bytes(PHOTO.read_bytes()[:9000])
    empty.mkdir()
    (empty / "config.json").write_text((random_checkpoint / "config.json").read_text())
    arguments, message = {
        "no image": ([ROOT / "LICENSE"], "is no image"),
        "half an image": ([half], "truncated"),
        "missing": ([tmp_path / "nowhere.jpg"], "there is no file"),
        "no weights": ([PHOTO, "--checkpoint", empty], "no weights"),
        "no model": ([PHOTO, "--checkpoint", tmp_path], "no model folder"),
        "no picture name": ([PHOTO, "--output", tmp_path / "overlay.txt"], "picture file"),
    }[problem]
    done = run_demo(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert message in done.stderr
