"""A long video takes no more memory than a short one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("av")

ROOT = Path(__file__).resolve().parents[1]
MEASURE = """
import json, resource, sys
from transformers_yoso import YosoPredictor
from transformers_yoso.video import predict_video

video, checkpoint, output = sys.argv[1:]
peaks = {}

def note_peak(result):
    peaks[result.time] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

predictor = YosoPredictor.from_pretrained(checkpoint, device="cpu")
predict_video(predictor, video, output + ".mp4", stride=5, panoptic_dir=output, on_frame=note_peak)
print(json.dumps(peaks))
"""


@pytest.mark.slow
def test_peak_memory_at_60_seconds_is_that_at_10_seconds(shared_dir: Path, tmp_path: Path) -> None:
    video = tmp_path / "tour.mp4"
    photos = sorted((shared_dir / "data" / "facade" / "val").glob("*.jpg"))[:12]
    options = ["--output", video, "--seconds", "60", "--fps", "10", "--size", "1280", "720"]
    subprocess.run([sys.executable, ROOT / "scripts" / "make_test_video.py", *photos, *options], check=True)
    checkpoint = ROOT / "checkpoints" / "yoso-lite0-facade"
    command = [sys.executable, "-c", MEASURE, video, checkpoint, tmp_path / "overlay"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    peaks = {float(time): peak for time, peak in json.loads(done.stdout.splitlines()[-1]).items()}
    at_10, at_60 = max(peak for time, peak in peaks.items() if time <= 10), max(peaks.values())
    print(f"peak resident memory: {at_10:.0f} MiB after 10 s, {at_60:.0f} MiB after {max(peaks):.0f} s of video")
    assert len(peaks) == 120 and max(peaks) > 59
    assert at_60 < 1.1 * at_10 + 50
