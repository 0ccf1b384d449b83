"""A long video takes no more memory than a short one."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("av")

ROOT = Path(__file__).resolve().parents[1]
PEAK = Path("/proc/self/status")
YOSO_WITH_PEAK = f"""
import re, sys
from pathlib import Path
from transformers_yoso_cli.app import app

try:
    app(sys.argv[1:])
finally:
    print(re.search(r"VmHWM:\\s+(\\d+)", Path("{PEAK}").read_text())[1])
"""
"""The command `yoso`; the last line it prints is the peak of its resident memory in KiB."""


def tour_of_photos(photos: list[Path], seconds: int, folder: Path) -> Path:
    """A 720p video with 10 frames a second."""
    video = folder / f"tour{seconds}.mp4"
    options = ["--output", video, "--seconds", str(seconds), "--fps", "10", "--size", "1280", "720"]
    subprocess.run([sys.executable, ROOT / "scripts" / "make_test_video.py", *photos, *options], check=True)
    return video


def peak_of_predict(video: Path, output: Path) -> float:
    """MiB of resident memory at the peak of `yoso predict`, which takes every fifth frame."""
    arguments = [video, "--stride", "5", "--device", "cpu", "-f", "overlay", "-f", "coco", "--output-dir", output]
    command = [sys.executable, "-c", YOSO_WITH_PEAK, "predict", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout.splitlines()[-1]) / 1024


@pytest.mark.slow
@pytest.mark.skipif(not PEAK.exists(), reason="the peak of resident memory is read from Linux's /proc")
def test_peak_of_60_seconds_is_that_of_10_seconds(shared_dir: Path, tmp_path: Path) -> None:
    photos = sorted((shared_dir / "data" / "facade" / "val").glob("*.jpg"))[:12]
    peaks = {}
    for seconds in (10, 60):
        video, output = tour_of_photos(photos, seconds, tmp_path), tmp_path / f"outputs{seconds}"
        peaks[seconds] = peak_of_predict(video, output)
        assert len(list(output.rglob("*.png"))) == 2 * seconds
    print(f"peak resident memory: {peaks[10]:.0f} MiB for 10 s, {peaks[60]:.0f} MiB for 60 s of video")
    assert peaks[60] < 1.15 * peaks[10]
