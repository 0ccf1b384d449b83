"""Videos: reading, writing, ids that last, real time, and what is wrong with a file in one line."""

import json
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from transformers_yoso.inference import (
    CameraError,
    MissingCodecError,
    MissingFileError,
    MissingPackageError,
    OutputError,
    VideoReadError,
    YosoPredictor,
)
from transformers_yoso.video import (
    Frame,
    FrameResult,
    VideoReader,
    VideoWriter,
    is_video_file,
    predict_video,
    segment_video,
)
from transformers_yoso.video.real_time import LatestFrames

av = pytest.importorskip("av")

ROOT = Path(__file__).resolve().parents[1]
PHOTO = ROOT / "assets" / "facade_demo.jpg"


def moving_photo(num_frames: int, size: tuple[int, int] = (160, 96)) -> Iterator[Image.Image]:
    """A window of `size` (width, height) that moves over a real photo."""
    photo = Image.open(PHOTO)
    for k in range(num_frames):
        left, top = 60 + 2 * k, 180 + k
        yield photo.crop((left, top, left + size[0], top + size[1]))


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 frames, 160 x 96, 10 per second."""
    path = tmp_path_factory.mktemp("video") / "walk.mp4"
    with VideoWriter(path, fps=10) as writer:
        for k, picture in enumerate(moving_photo(30)):
            writer.write(picture, k / 10)
    return path


@pytest.fixture(scope="module")
def predictor() -> YosoPredictor:
    """The shipped model on small inputs, with thresholds so low that it always finds something."""
    return YosoPredictor.from_pretrained(
        ROOT / "checkpoints" / "yoso-lite0-facade",
        device="cpu",
        size={"shortest_edge": 96, "longest_edge": 192},
        threshold=0.05,
        overlap_mask_area_threshold=0.2,
    )


@pytest.mark.parametrize("ending", [".mp4", ".mkv", ".webm"])
def test_what_is_written_is_read_back(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "new folder" / f"walk{ending}"
    pictures = list(moving_photo(12, size=(95, 63)))
    with VideoWriter(path, fps=10) as writer:
        for k, picture in enumerate(pictures):
            writer.write(picture, k / 10)
    frames = list(VideoReader(path))
    assert [frame.index for frame in frames] == list(range(12))
    assert [frame.time for frame in frames] == pytest.approx([k / 10 for k in range(12)], abs=2e-3)
    for frame, picture in zip(frames, pictures, strict=True):
        assert frame.pixels.shape == (64, 96, 3) and frame.pixels.dtype == np.uint8
        difference = np.abs(frame.pixels[:63, :95].astype(float) - np.asarray(picture, dtype=float))
        assert difference.mean() < 12


def test_stride_and_max_fps_leave_frames_out(video: Path) -> None:
    with VideoReader(video, stride=7) as reader:
        assert reader.fps == pytest.approx(10 / 7)
        assert [frame.index for frame in reader] == [0, 7, 14, 21, 28]
    with VideoReader(video, max_fps=4) as reader:
        frames = list(reader)
        assert reader.fps == 4 and reader.num_frames == 12
    assert len(frames) == 12
    assert frames[0].index == 0 and all(b.time - a.time < 0.31 for a, b in pairwise(frames))
    assert len(list(VideoReader(video, max_fps=100))) == 30
    for wrong in ({"stride": 0}, {"max_fps": 0.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            VideoReader(video, **wrong)


def test_a_video_that_a_phone_recorded_lying_is_turned_upright() -> None:
    from transformers_yoso.video.reader import upright_pixels

    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    turned = upright_pixels(SimpleNamespace(rotation=-90, to_ndarray=lambda format: pixels))
    assert (turned == np.rot90(pixels, k=-1)).all() and turned.shape == (4, 2, 3)


def test_predict_video_writes_overlay_maps_and_run_lengths(
    predictor: YosoPredictor, video: Path, tmp_path: Path
) -> None:
    pytest.importorskip("pycocotools")
    seen: list[FrameResult] = []
    summary = predict_video(
        predictor,
        video,
        tmp_path / "overlay.mp4",
        stride=3,
        panoptic_dir=tmp_path / "maps",
        rle_file=tmp_path / "runs.jsonl",
        on_frame=seen.append,
    )
    assert summary.num_frames == 10 and summary.num_dropped == 0 and summary.fps > 0
    assert [result.index for result in seen] == list(range(0, 30, 3))
    assert all(result.fps > 0 for result in seen)

    overlay, photos = list(VideoReader(tmp_path / "overlay.mp4")), list(VideoReader(video, stride=3))
    assert [frame.time for frame in overlay] == pytest.approx([frame.time for frame in photos], abs=2e-3)
    for drawn, photo, result in zip(overlay, photos, seen, strict=True):
        assert result.prediction.segments
        expected = np.asarray(result.prediction.draw(badge=f"{result.fps:.1f} FPS"), dtype=float)
        to_overlay = np.abs(drawn.pixels.astype(float) - expected).mean()
        assert to_overlay < 0.7 * np.abs(drawn.pixels.astype(float) - photo.pixels).mean()
        assert (result.prediction.pixels.permute(1, 2, 0).numpy() == photo.pixels).all()

    truth = json.loads((tmp_path / "maps" / "panoptic.json").read_text())
    lines = [json.loads(line) for line in (tmp_path / "runs.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == [result.index for result in seen]
    for annotation, line, result in zip(truth["annotations"], lines, seen, strict=True):
        ids = np.asarray(Image.open(tmp_path / "maps" / annotation["file_name"])).astype(int) @ [1, 256, 65536]
        assert (ids == result.prediction.map).all()
        assert [entry["id"] for entry in line["segments"]] == [s.id for s in result.prediction.segments]


def test_the_badge_shows_the_rate_and_can_be_left_out(predictor: YosoPredictor, video: Path, tmp_path: Path) -> None:
    corners = {}
    for show_fps in (True, False):
        path = tmp_path / f"{show_fps}.mkv"
        predict_video(predictor, video, path, stride=29, show_fps=show_fps, alpha=0.0, draw_labels=False)
        corners[show_fps] = next(iter(VideoReader(path))).pixels[3:14, 5:40].astype(float)
    assert np.abs(corners[True] - corners[False]).mean() > 20


def test_predictions_can_be_stopped(predictor: YosoPredictor, video: Path, tmp_path: Path) -> None:
    summary = predict_video(predictor, video, tmp_path / "short.mp4", on_frame=lambda result: result.index < 4)
    assert summary.num_frames == 5
    assert len(list(VideoReader(tmp_path / "short.mp4"))) == 5


def test_ids_last_by_default_and_can_be_switched_off(predictor: YosoPredictor, video: Path) -> None:
    kept = [result.prediction for result in segment_video(predictor, video, stride=5)]
    plain = [result.prediction for result in segment_video(predictor, video, stride=5, keep_ids=False)]
    assert any(list(np.unique(a.map)) != list(np.unique(b.map)) for a, b in zip(kept, plain, strict=True))
    for a, b in zip(kept, plain, strict=True):
        assert [s.label_id for s in a.segments] == [s.label_id for s in b.segments]
        assert [s.area for s in a.segments] == [s.area for s in b.segments]
        assert [s.id for s in b.segments] == list(range(1, len(b.segments) + 1))


def test_real_time_drops_frames_rather_than_lags(predictor: YosoPredictor, video: Path) -> None:
    results = []
    for result in segment_video(predictor, video, realtime=True):
        time.sleep(0.35)
        results.append(result)
    indices = [result.index for result in results]
    assert indices == sorted(set(indices)) and len(indices) < 15
    assert results[-1].index == 29
    assert results[-1].dropped == 30 - len(indices)


def test_latest_frames_hands_out_the_newest_and_passes_errors_on() -> None:
    def frames() -> Iterator[Frame]:
        for k in range(50):
            yield Frame(k, 0.0, np.zeros((1, 1, 3), np.uint8))
        raise VideoReadError("cable pulled")

    latest = LatestFrames(frames(), paced=False)
    latest._thread.join()
    assert next(latest).index == 49 and latest.dropped == 49
    with pytest.raises(VideoReadError, match="cable pulled"):
        next(latest)


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory, video: Path) -> dict[str, Path]:
    """Files that are no video, by what is wrong with them."""
    folder = tmp_path_factory.mktemp("broken")
    files = {name: folder / f"{name}.mp4" for name in ("empty", "half", "text", "sound", "no frames", "photo")}
    files["empty"].write_bytes(b"")
    files["half"].write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    files["text"].write_bytes((ROOT / "LICENSE").read_bytes())
    files["photo"] = PHOTO
    files["listing"] = folder / "listing.txt"
    files["listing"].write_text("one\ntwo\n")
    with av.open(str(files["sound"]), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        silence.rate, silence.pts = 44100, 0
        container.mux([*stream.encode(silence), *stream.encode(None)])
    with av.open(str(files["no frames"]), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(10))
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        container.start_encoding()
    return files


@pytest.mark.parametrize("problem", ["empty", "half", "text", "sound", "no frames", "photo", "listing"])
def test_a_file_without_a_video_is_named_in_one_line(
    problem: str, broken: dict[str, Path], predictor: YosoPredictor, tmp_path: Path
) -> None:
    output = tmp_path / "overlay.mp4"
    with pytest.raises(VideoReadError) as caught:
        predict_video(predictor, broken[problem], output)
    assert broken[problem].name in str(caught.value) and "\n" not in str(caught.value)
    assert not output.exists()


def test_what_is_not_there_is_named(video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingFileError, match=r"nowhere\.mp4"):
        VideoReader(tmp_path / "nowhere.mp4")
    with pytest.raises(CameraError, match="camera 97"):
        VideoReader(97)
    with pytest.raises(MissingCodecError, match="'betamax'"):
        VideoWriter(tmp_path / "a.mp4", 10, codec="betamax")
    with pytest.raises(OutputError, match=r"\.mp4, \.mov"):
        VideoWriter(tmp_path / "a.txt", 10)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"):
        VideoWriter(tmp_path / "file" / "a.mp4", 10)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingPackageError, match=r"transformers-yoso\[video\]"):
        VideoReader(video)


def test_a_codec_that_the_container_cannot_hold_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises((MissingCodecError, OutputError), match=r"a\.webm|libx264"),
        VideoWriter(tmp_path / "a.webm", 10, codec="libx264") as writer,
    ):
        writer.write(np.zeros((64, 64, 3), np.uint8), 0.0)


def test_video_files_are_known_by_their_ending() -> None:
    assert is_video_file("a/b.MP4") and is_video_file(Path("b.webm"))
    assert not is_video_file("photo.jpg") and not is_video_file("mp4")
