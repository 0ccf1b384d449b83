"""The wheel: what is in it, and that it needs nothing else to segment a photo."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import transformers_yoso

ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--wheel-dir", folder, ROOT], check=True)
    [path] = folder.glob("*.whl")
    return path


def test_the_wheel_is_small_and_whole(wheel: Path) -> None:
    assert wheel.stat().st_size < 20e6
    assert wheel.name.startswith(f"transformers_yoso-{transformers_yoso.__version__}-")
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {
        "transformers_yoso/checkpoints/yoso-lite0-facade/model.safetensors",
        "transformers_yoso/training/recipes/finetune.yaml",
        "transformers_yoso/conversion/dataset_labels/coco.json",
        "transformers_yoso_cli/app.py",
    }
    assert expected <= names
    assert not [name for name in names if "test" in name.split("/")[0] or "__pycache__" in name]


def test_the_installed_wheel_segments_a_photo_by_its_own_checkpoint(wheel: Path, tmp_path: Path) -> None:
    site, work = tmp_path / "site", tmp_path / "work"
    zipfile.ZipFile(wheel).extractall(site)
    work.mkdir()
    shutil.copy(ROOT / "assets" / "facade_demo.jpg", work / "photo.jpg")
    command = [sys.executable, "-m", "transformers_yoso_cli", "predict", "photo.jpg", "--size", "128", "192"]
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert str(site / "transformers_yoso" / "checkpoints" / "yoso-lite0-facade") in done.stdout
    assert (work / "outputs" / "photo_overlay.jpg").is_file()
