"""The command `yoso`: what it writes, what it prints, and one line for everything that is wrong with the input."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transformers import ViTConfig
from typer.testing import CliRunner, Result

import transformers_yoso
from training_runs import few_photos_folder
from transformers_yoso.video import VideoReader
from transformers_yoso_cli.app import app

ROOT = Path(__file__).resolve().parents[1]
CHECKPOINT = ROOT / "checkpoints" / "yoso-lite0-facade"
FACADE = ROOT / "assets" / "facade_demo.jpg"
FAST = ("--size", "96", "160", "--threshold", "0.05", "--overlap-mask-area-threshold", "0.2", "--device", "cpu")


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands run in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with two photos and something else."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for k, name in enumerate(("left.jpg", "right.png")):
        Image.open(FACADE).crop((60 + 90 * k, 180, 220 + 90 * k, 300)).save(folder / name)
    (folder / "notes.txt").write_text("no photo")
    return folder


@pytest.fixture
def half_photo(tmp_path: Path) -> Path:
    path = tmp_path / "half.jpg"
    path.write_bytes(FACADE.read_bytes()[:9000])
    return path


def yoso(*arguments: str | Path, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)), input=stdin)


def predict(*arguments: str | Path, stdin: str | None = None) -> Result:
    return yoso("predict", *arguments, *FAST, stdin=stdin)


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_help_needs_neither_torch_nor_transformers() -> None:
    code = """if True:
        import sys
        from transformers_yoso_cli.app import app
        try:
            app(["--help"])
        finally:
            print("heavy:", sorted({"torch", "transformers", "numpy", "PIL"} & sys.modules.keys()))
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "heavy: []" in done.stdout
    commands = ("predict", "train", "evaluate", "check-data", "convert", "export", "benchmark", "info")
    assert all(f"\n  {command} " in done.stdout for command in commands)


def test_the_version_is_that_of_the_package() -> None:
    assert yoso("--version").output == f"transformers-yoso {transformers_yoso.__version__}\n"


def test_a_photo_gives_an_overlay_by_the_default_checkpoint(photos: Path, own_folder: Path) -> None:
    done = predict(photos / "left.jpg")
    assert done.exit_code == 0, done.output
    assert "Default checkpoint" in done.stdout and str(CHECKPOINT) in done.stdout
    assert names(own_folder / "outputs") == ["left_overlay.jpg"]
    overlay, photo = Image.open("outputs/left_overlay.jpg"), Image.open(photos / "left.jpg")
    assert overlay.size == photo.size
    difference = np.abs(np.asarray(overlay, dtype=int) - np.asarray(photo, dtype=int))
    assert (difference.max(axis=-1) > 20).mean() > 0.3
    assert "facade" in done.stdout and "outputs/left_overlay.jpg" in done.stdout


def test_coco_and_run_lengths_tell_of_the_same_segments(photos: Path, own_folder: Path) -> None:
    pytest.importorskip("pycocotools")
    done = predict(photos, "--format", "coco", "-f", "rle", "--output_dir", "out", "--checkpoint", CHECKPOINT)
    assert done.exit_code == 0, done.output
    assert names(own_folder / "out") == [
        "panoptic/left.png",
        "panoptic/panoptic.json",
        "panoptic/right.png",
        "segments.jsonl",
    ]
    panoptic = json.loads(Path("out/panoptic/panoptic.json").read_text())
    lines = [json.loads(line) for line in Path("out/segments.jsonl").read_text().splitlines()]
    assert [image["file_name"] for image in panoptic["images"]] == ["left.jpg", "right.png"]
    assert {category["name"]: category["isthing"] for category in panoptic["categories"]}["facade"] == 0
    for annotation, line in zip(panoptic["annotations"], lines, strict=True):
        ids = np.asarray(Image.open(f"out/panoptic/{annotation['file_name']}")).astype(int) @ [1, 256, 65536]
        areas = {segment["id"]: segment["area"] for segment in line["segments"]}
        assert areas and areas == {
            segment["id"]: (ids == segment["id"]).sum() for segment in annotation["segments_info"]
        }
        assert {segment["bbox"][2] > 0 for segment in line["segments"]} == {True}


def test_folder_glob_and_list_on_stdin_find_the_same_photos(photos: Path, own_folder: Path) -> None:
    expected = ["left_overlay.jpg", "right_overlay.jpg"]
    listed = f"{photos / 'left.jpg'}\n\n{photos / 'right.png'}\n"
    for number, (argument, stdin) in enumerate([(photos, None), (f"{photos}/*t.*g", None), ("-", listed)]):
        done = predict(argument, "--output-dir", str(number), stdin=stdin)
        assert done.exit_code == 0, done.output
        assert names(own_folder / str(number)) == expected


def test_photos_of_one_name_do_not_overwrite_each_other(photos: Path, own_folder: Path) -> None:
    other = own_folder / "other"
    other.mkdir()
    Image.open(photos / "right.png").save(other / "left.jpg")
    assert predict(photos, other, photos / "left.jpg", "-f", "overlay", "-f", "coco").exit_code == 0
    assert [name for name in names(own_folder / "outputs") if name.endswith("jpg")] == [
        "left_2_overlay.jpg",
        "left_overlay.jpg",
        "right_overlay.jpg",
    ]
    annotations = json.loads(Path("outputs/panoptic/panoptic.json").read_text())["annotations"]
    assert [annotation["file_name"] for annotation in annotations] == ["left.png", "right.png", "left_2.png"]


def test_goes_on_over_broken_files_and_lists_them(photos: Path, half_photo: Path, own_folder: Path) -> None:
    done = predict(half_photo, photos, "nowhere.jpg", "--batch-size", "2")
    assert done.exit_code == 1
    assert names(own_folder / "outputs") == ["left_overlay.jpg", "right_overlay.jpg"]
    warnings = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 2 and "half.jpg" in warnings[0] and "nowhere.jpg" in warnings[1]
    end = done.stderr.splitlines()[-3:]
    assert end[0] == "error: 2 of 4 inputs failed:" and "half.jpg" in end[1] and "nowhere.jpg" in end[2]
    assert "2 of 4 photos in" in done.stdout


def test_subtask_thresholds_and_legend_reach_the_result(photos: Path) -> None:
    pytest.importorskip("pycocotools")
    photo = photos / "left.jpg"
    common = ("--size", "96", "160", "-f", "rle", "-f", "overlay", "--device", "cpu", "--legend")
    semantic = yoso("predict", photo, "--subtask", "semantic", *common)
    assert semantic.exit_code == 0, semantic.output
    segments = json.loads(Path("outputs/segments.jsonl").read_text())["segments"]
    assert sum(segment["area"] for segment in segments) == 160 * 120
    assert all(segment["score"] is None for segment in segments)
    assert Image.open("outputs/left_overlay.jpg").height > 120
    nothing = yoso("predict", photo, "--subtask", "instance", "--threshold", "1", *common)
    assert nothing.exit_code == 0 and "no segments" in nothing.stdout
    assert json.loads(Path("outputs/segments.jsonl").read_text())["segments"] == []


def another_model(folder: Path) -> Path:
    ViTConfig().save_pretrained(folder)
    return folder


def file_in_the_way(folder: Path) -> Path:
    folder.write_text("a file")
    return folder / "below"


def test_what_is_wrong_is_said_in_one_line(photos: Path, half_photo: Path, tmp_path: Path) -> None:
    photo = photos / "left.jpg"
    (tmp_path / "empty").mkdir()
    cases: list[tuple[Sequence[str | Path], int, str]] = [
        ([photos / "notes.txt"], 1, "notes.txt: no image"),
        ([half_photo], 1, "half.jpg: cannot be read as an image"),
        (["nowhere.jpg"], 1, "no file nowhere.jpg"),
        ([tmp_path / "empty"], 2, "no photo and no video in the folder"),
        (["*.webp"], 2, "No file matches *.webp"),
        (["-"], 2, "list of paths on stdin is empty"),
        ([photo, "--output-dir", file_in_the_way(tmp_path / "file")], 2, "Cannot write into the folder"),
        ([photo, "--checkpoint", another_model(tmp_path / "vit")], 2, "'vit'"),
        ([photo, "--checkpoint", tmp_path / "empty"], 2, "is no checkpoint folder"),
        ([photo, "--checkpoint", "runs/mine/best"], 2, "There is no folder runs/mine/best"),
        ([photo, "--size", "160", "96"], 2, "SHORTEST <= LONGEST"),
        ([photo, "--device", "cuda:99"], 2, "'cuda:99'"),
    ]
    for arguments, exit_code, message in cases:
        done = yoso("predict", *arguments, stdin="")
        assert done.exit_code == exit_code, (arguments, done.output)
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
        assert message in done.stderr


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    arguments = ("predict", FACADE, "--checkpoint", another_model(tmp_path / "vit"))
    plain, debugged = yoso(*arguments), yoso(*arguments, "--debug")
    assert plain.exit_code == debugged.exit_code == 2
    assert "Traceback" not in plain.output
    assert "Traceback" in debugged.stderr and debugged.stderr.endswith(plain.stderr)


def test_debug_shows_the_tracebacks_of_failed_inputs(half_photo: Path) -> None:
    inputs = (half_photo, "nowhere.jpg", "77")
    plain, debugged = predict(*inputs), predict(*inputs, "--debug")
    assert plain.exit_code == debugged.exit_code == 1
    assert "Traceback" not in plain.output
    assert debugged.stderr.count("\nImageReadError: ") + debugged.stderr.count(".ImageReadError: ") == 1
    assert ".MissingFileError: " in debugged.stderr and ".CameraError: " in debugged.stderr
    assert debugged.stderr.endswith(plain.stderr[plain.stderr.index("error: ") :])


def test_info_tells_of_checkpoint_labels_versions_and_devices() -> None:
    done = yoso("info")
    assert done.exit_code == 0, done.output
    threshold = json.loads((CHECKPOINT / "preprocessor_config.json").read_text())["threshold"]
    names = ("tf_efficientnet_lite0", "thing  window", "stuff  facade", f"threshold {threshold}", "cpu:")
    for line in (str(CHECKPOINT), *names):
        assert line in done.stdout
    import torch

    assert torch.__version__.partition("+")[0] in done.stdout
    assert "no checkpoint folder" in yoso("info", "--checkpoint", ROOT / "src").stderr


class TestVideo:
    @pytest.fixture
    def clip(self, tmp_path: Path) -> Path:
        """12 frames, 160 x 96, 10 per second."""
        pytest.importorskip("av")
        from transformers_yoso.video import VideoWriter

        path = tmp_path / "clip.mp4"
        with VideoWriter(path, fps=10) as writer:
            for k in range(12):
                writer.write(Image.open(FACADE).crop((60 + k, 180, 220 + k, 276)), k / 10)
        return path

    def test_a_video_gives_a_video_and_maps(self, clip: Path, photos: Path, own_folder: Path) -> None:
        done = predict(clip, photos / "left.jpg", "-f", "overlay", "-f", "coco", "--stride", "3")
        assert done.exit_code == 0, done.output
        assert "clip.mp4: 4 frames at" in done.stdout and "left.jpg: " in done.stdout
        frames = list(VideoReader(own_folder / "outputs" / "clip_overlay.mp4"))
        assert [frame.pixels.shape for frame in frames] == [(96, 160, 3)] * 4
        content = json.loads(Path("outputs/clip_panoptic/panoptic.json").read_text())
        assert [image["file_name"] for image in content["images"]] == [f"clip_{k:06d}.jpg" for k in (0, 3, 6, 9)]

    def test_what_is_wrong_with_a_video_is_said_in_one_line(
        self, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "text.mp4").write_text("no video")
        (tmp_path / "still.mp4").write_bytes(FACADE.read_bytes())
        cut = tmp_path / "cut.mp4"
        cut.write_bytes(clip.read_bytes()[:600])
        cases = [
            (["text.mp4"], "text.mp4: no video"),
            (["still.mp4"], "still.mp4: a picture"),
            ([cut], "cut.mp4: no video"),
            (["nowhere.mp4"], "no file nowhere.mp4"),
            (["77"], "no camera 77"),
            ([clip, "--codec", "nosuch"], "no encoder 'nosuch'"),
            ([clip, "--codec", "aac"], "'aac' is for audio"),
        ]
        for arguments, message in cases:
            done = predict(*arguments)
            assert done.exit_code == 1, (arguments, done.output)
            assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
            assert message in done.stderr
        monkeypatch.setitem(sys.modules, "av", None)
        done = predict(clip)
        assert done.exit_code == 1 and "pip install 'transformers-yoso[video]'" in done.stderr

    def test_ctrl_c_ends_a_camera_and_leaves_a_whole_video(
        self, clip: Path, own_folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from transformers_yoso.video import reader
        from transformers_yoso_cli.predict_videos import FrameCount

        def stop_at_the_third_frame(self: FrameCount, result: object) -> None:
            self.frames += 1
            if self.frames == 3:
                raise KeyboardInterrupt

        monkeypatch.setattr(FrameCount, "__call__", stop_at_the_third_frame)
        monkeypatch.setattr(reader, "open_camera", lambda index: reader.open_video(str(clip)))
        done = predict("0", "--no-realtime")
        assert done.exit_code == 0, done.output
        assert "camera 0: 3 frames" in done.stdout
        assert len(list(VideoReader(own_folder / "outputs" / "camera0_overlay.mp4"))) == 3
        assert predict(clip).exit_code == 130


class TestLibraryCommands:
    @pytest.fixture
    def dataset(self, shared_dir: Path, tmp_path: Path) -> Path:
        return few_photos_folder(shared_dir / "data" / "facade", tmp_path / "data", {"val": 2})

    def test_check_data_and_evaluate_take_both_spellings_of_options(self, dataset: Path, own_folder: Path) -> None:
        done = yoso("check-data", "--dataset-dir", dataset, f"--output_json={own_folder / 'check.json'}")
        assert done.exit_code == 0, done.output
        assert "num_errors" in json.loads((own_folder / "check.json").read_text())
        scores = own_folder / "scores.json"
        common = ("--model-name-or-path", CHECKPOINT, "--dataset_dir", dataset, "--use-cpu")
        done = yoso("evaluate", *common, "--size", "96", "160", "--output_json", scores)
        assert done.exit_code == 0, done.output
        assert json.loads(scores.read_text())["num_images"] == 2

    def test_errors_are_one_line(self, dataset: Path, tmp_path: Path) -> None:
        common = ("evaluate", "--model_name_or_path", CHECKPOINT, "--dataset_dir")
        done = yoso(*common, tmp_path / "nowhere")
        assert done.exit_code == 2 and done.stderr.count("\n") == 1 and "nowhere" in done.stderr
        assert "Traceback" in yoso(*common, tmp_path / "nowhere", "--debug").stderr
        other = ("--model_name_or_path", another_model(tmp_path / "vit"), "--dataset_dir", dataset)
        for command in (("evaluate", "--use_cpu"), ("train", "--use_cpu", "--train_split=val", "--output_dir=run")):
            done = yoso(*command, *other)
            assert done.exit_code == 2 and "holds a model of type 'vit'" in done.stderr, done.output
        done = yoso("train", "--recipe", "nosuch", "--output_dir", tmp_path / "run")
        assert done.exit_code == 2 and done.stderr.startswith("error: No recipe 'nosuch'")

    def test_help_is_that_of_the_command(self) -> None:
        done = yoso("convert", "--help")
        assert done.exit_code == 0 and done.stdout.startswith("usage: yoso convert") and "--checkpoint" in done.stdout

    def test_a_missing_package_is_named_with_its_extra(self) -> None:
        code = "import sys; sys.modules['onnx'] = None; from transformers_yoso_cli.app import app; app(['export'])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 2
        assert "needs the package onnx: pip install 'transformers-yoso[export]'" in done.stderr
        assert "Traceback" not in done.stderr
