"""The calculation of a schedule from a measured step."""

import json
import runpy
import sys

import pytest

from training_runs import ROOT
from transformers_yoso.training.schedule_estimate import StepMeasurement, estimate_schedule

SCRIPT = ROOT / "scripts" / "estimate_schedule.py"
MEASURED = StepMeasurement(images_per_second=10.0, loading_images_per_second=9.0, memory_gib=12.5, origin="by hand")


def run_script(monkeypatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, arguments)])
    runpy.run_path(str(SCRIPT), run_name="__main__")


def test_hours_follow_by_hand():
    options = {"steps": 3600, "total_batch_size": 16, "num_processes": 8}
    estimate = estimate_schedule(MEASURED, **options)
    # 2 images a process and step at 10 images/s: 0.2 s a step, 720 s, 16 / 0.2 = 80 images/s
    assert (estimate.hours, estimate.images_per_second, estimate.images) == pytest.approx((0.2, 80.0, 57_600))
    assert estimate.communication_share == 0 and estimate.loading_keeps_up is False
    # 100 M weights: 2 * 7/8 * 400 MB = 0.7 GB at 7 GB/s: 0.1 s more; then 9 images/s are enough
    slower = estimate_schedule(MEASURED, **options, num_parameters=100_000_000, bandwidth=7.0)
    assert slower.hours == pytest.approx(0.3) and slower.communication_share == pytest.approx(1 / 3)
    assert slower.loading_keeps_up is True


def test_the_report_says_what_was_measured_and_what_calculated(tmp_path, monkeypatch, capsys):
    settings = {"model_name_or_path": "m", "crop_size": 1024, "per_device_train_batch_size": 2}
    content = {
        **{"median": {"training": 20.0, "loading": 50.0, "ratio": 2.5}, "memory_gib": 9.25},
        "hardware": {"gpu": "H9000", "gpu_memory_gib": 80, "torch": "2.14"},
        "settings": {**settings, "dataloader_num_workers": 4},
    }
    (tmp_path / "step.json").write_text(json.dumps(content))
    run_script(monkeypatch, "--recipe", "coco", "--measurement", tmp_path / "step.json", "--num_processes", 1, 8)
    printed = capsys.readouterr().out
    assert (
        "**Calculation** for the recipe coco, not a measurement." in printed
        and "crop 1024" in printed
        and "1 x H9000 (80 GiB)" in printed
    )
    # 368,750 steps of 16 images: 5.9 M images; at 20 and 160 images/s 81.9 and 10.2 hours
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed.splitlines() if line.startswith("| ")]
    assert rows[2] == ["1", "368750", "5.90 M", "20", "81.9", "9.2 GiB", "0.0 %", "yes"]
    assert rows[3][3:5] == ["160", "10.2"]


def test_senseless_numbers_are_refused(tmp_path, monkeypatch, capsys):
    with pytest.raises(ValueError, match="16 images a step cannot be divided among 3 processes"):
        estimate_schedule(MEASURED, steps=1, total_batch_size=16, num_processes=3)
    with pytest.raises(ValueError, match="greater than 0"):
        StepMeasurement(0.0, None, None, "")
    (tmp_path / "step.json").write_text("{}")
    with pytest.raises(SystemExit, match=r"no JSON of scripts/benchmark_data\.py"):
        run_script(monkeypatch, "--measurement", tmp_path / "step.json")
    with pytest.raises(SystemExit):
        run_script(monkeypatch, "--recipe", "coco")
    assert "exactly one" in capsys.readouterr().err
