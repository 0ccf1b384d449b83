"""The web demo without a browser: what its controls call, its command, and the Space that it writes."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

pytest.importorskip("gradio", reason="the web demo needs gradio: pip install 'transformers-yoso[demo]'")

from transformers_yoso import YosoPredictor
from transformers_yoso.web_demo.app import Callbacks, build_app
from transformers_yoso.web_demo.command import main
from transformers_yoso.web_demo.results import Thresholds, load_predictors, saved_thresholds
from web_demo_server import CHECKPOINT, PHOTO, free_port, wait_until_served

LOW = Thresholds(0.05, 0.5, 0.2)


@pytest.fixture(scope="module")
def callbacks() -> Callbacks:
    """The shipped model on small inputs."""
    size = {"shortest_edge": 128, "longest_edge": 192}
    return Callbacks({"facade": YosoPredictor.from_pretrained(CHECKPOINT, device="cpu", size=size)})


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("photo") / "my facade.png"
    Image.open(PHOTO).crop((60, 180, 252, 340)).save(path)
    return str(path)


def test_a_photo_gives_table_map_and_json_that_agree(callbacks: Callbacks, photo: str) -> None:
    result, summary, table, map_file, json_file = callbacks.segment(photo, "facade", "panoptic", *LOW)
    assert table and summary.startswith(f"Segments: {len(table)}, on ")
    assert [Path(file).name for file in (map_file, json_file)] == ["my facade.png", "my facade_panoptic.json"]
    rgb = np.asarray(Image.open(map_file)).astype(int)
    ids = rgb @ [1, 256, 65536]
    areas = [np.mean(ids == row[0]) * 100 for row in table]
    assert areas == sorted(areas, reverse=True)
    assert [f"{area:.2f}" for area in areas] == [row[4] for row in table]
    panoptic = json.loads(Path(json_file).read_text())
    names = {category["id"]: category["name"] for category in panoptic["categories"]}
    (annotation,) = panoptic["annotations"]
    assert {info["id"]: names[info["category_id"]] for info in annotation["segments_info"]} == {
        row[0]: row[1] for row in table
    }
    assert panoptic["images"][0]["file_name"] == "my facade.png"
    assert {row[2] for row in table if row[1] == "facade"} == {"stuff"}
    assert {row[2] for row in table if row[1] == "window"} <= {"thing"}
    assert result.prediction.size == (160, 192)


def test_thresholds_change_the_result(callbacks: Callbacks, photo: str) -> None:
    many, few, none = (
        len(callbacks.segment(photo, "facade", "panoptic", threshold, 0.5, 0.0)[2]) for threshold in (0.05, 0.9, 1.0)
    )
    assert many > few > none == 0


@pytest.mark.parametrize("subtask", ["instance", "semantic"])
def test_other_subtasks(callbacks: Callbacks, photo: str, subtask: str) -> None:
    result, _, table, *_ = callbacks.segment(photo, "facade", subtask, *LOW)
    assert result.prediction.subtask == subtask
    assert {row[3] == "" for row in table} == {subtask == "semantic"}


def test_drawing_options_change_the_overlay_without_the_model(
    callbacks: Callbacks, photo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = callbacks.segment(photo, "facade", "panoptic", *LOW)[0]
    monkeypatch.setattr(callbacks, "predictors", {})
    plain = callbacks.draw(result, 0.0, False, False)
    strong = callbacks.draw(result, 0.9, False, False)
    assert plain.size == strong.size == (192, 160)
    assert np.abs(np.asarray(plain).astype(int) - np.asarray(strong)).mean() > 10
    assert callbacks.draw(result, 0.9, False, True).height > 160
    assert callbacks.draw(None, 0.5, True, True) is None


def test_files_of_a_result_go_with_it(callbacks: Callbacks, photo: str) -> None:
    result, _, _, map_file, _ = callbacks.segment(photo, "facade", "panoptic", *LOW)
    assert Path(map_file).exists()
    del result
    assert not Path(map_file).exists()


@pytest.mark.parametrize("content", [b"no image", PHOTO.read_bytes()[:9000], b""])
def test_a_broken_upload_is_named_in_one_line(callbacks: Callbacks, tmp_path: Path, content: bytes) -> None:
    upload = tmp_path / "broken.jpg"
    upload.write_bytes(content)
    result, summary, table, *files = callbacks.segment(str(upload), "facade", "panoptic", *LOW)
    assert (result, table, files) == (None, [], [None, None])
    assert "broken.jpg: " in summary and "\n" not in summary and str(tmp_path) not in summary


def test_sliders_start_at_the_thresholds_of_the_checkpoint_and_lock(callbacks: Callbacks) -> None:
    saved = saved_thresholds(callbacks.predictors["facade"])
    assert callbacks.reset("facade") == list(saved)
    components = {
        component["props"].get("elem_id"): component
        for component in build_app(callbacks.predictors).config["components"]
    }
    assert {name: components[name]["props"]["value"] for name in Thresholds._fields} == saved._asdict()
    locked = {
        subtask: [update["interactive"] for update in callbacks.enable(subtask)]
        for subtask in ("panoptic", "instance", "semantic")
    }
    assert locked == {"panoptic": [True] * 3, "instance": [True, True, False], "semantic": [False] * 3}


def test_checkpoints_of_one_name_are_called_by_their_paths(tmp_path: Path) -> None:
    folders = [str(CHECKPOINT)] + [str(tmp_path / run / "best") for run in "ab"]
    for folder in folders[1:]:
        Path(folder).parent.mkdir()
        Path(folder).symlink_to(CHECKPOINT)
    assert list(load_predictors(folders, device="cpu")) == [CHECKPOINT.name, *folders[1:]]


def failure(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """What the command says on stderr when it ends with code 2."""
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    assert stop.value.code == 2
    return capsys.readouterr().err


@pytest.fixture
def another_model(tmp_path: Path) -> Path:
    folder = tmp_path / "maskformer"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "maskformer"}))
    return folder


@pytest.mark.parametrize("space", [False, True])
def test_a_checkpoint_of_another_model_ends_the_command_in_one_line(
    capsys: pytest.CaptureFixture[str], another_model: Path, tmp_path: Path, space: bool
) -> None:
    arguments = ["--space", tmp_path / "space"] if space else ["--port", free_port()]
    message = failure(capsys, "--checkpoint", another_model, *arguments)
    assert message.startswith("error: ") and message.count("\n") == 1 and "'maskformer'" in message
    assert not (tmp_path / "space").exists()
    assert "Traceback" in failure(capsys, "--checkpoint", another_model, *arguments, "--debug")


def test_a_port_in_use_ends_the_command_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        message = failure(capsys, "--port", port)
    assert message.startswith(f"error: Cannot listen on 127.0.0.1:{port} (Address already in use)")
    assert message.count("\n") == 1 and "--port" in message
    assert "Cannot listen on 127.0.0.1:70000" in failure(capsys, "--port", 70000)


def test_a_missing_gradio_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, "transformers_yoso.web_demo.app")
    message = failure(capsys, "--port", free_port())
    assert "transformers-yoso[demo]" in message and message.count("\n") == 1


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("put") / "space"
    main(["--space", str(folder)])
    return folder


def test_a_space_has_front_matter_requirements_and_all_files(space: Path) -> None:
    import gradio

    front = yaml.safe_load((space / "README.md").read_text().split("---")[1])
    assert front["sdk"] == "gradio" and front["sdk_version"] == gradio.__version__
    assert (space / front["app_file"]).is_file() and len(front["short_description"]) <= 60
    needed = {line.split(">")[0].split("<")[0] for line in (space / "requirements.txt").read_text().split()}
    assert {"torch", "torchvision", "transformers", "timm", "pillow", "safetensors"} <= needed
    assert "gradio" not in needed and "pytest" not in needed
    assert (space / "checkpoints" / CHECKPOINT.name / "model.safetensors").is_file()
    assert (space / "examples" / PHOTO.name).is_file()
    assert not list(space.rglob("__pycache__"))


def test_a_space_is_not_written_over_other_files(capsys: pytest.CaptureFixture[str], space: Path) -> None:
    assert "is not empty" in failure(capsys, "--space", space)
    assert "Cannot write into" in failure(capsys, "--space", space / "app.py" / "below")
    assert "no folder" in failure(capsys, "--space", space / "new", "--checkpoint", "name/on-the-hub")


@pytest.mark.slow
def test_a_space_runs_by_itself(space: Path) -> None:
    """With its own copy of the package: here with another title, as this environment has the package too."""
    app = space / "transformers_yoso" / "web_demo" / "app.py"
    app.write_text(app.read_text().replace('title="YOSO', 'title="Copy of YOSO'))
    port = free_port()
    environment = {"GRADIO_SERVER_PORT": str(port), "HF_HUB_OFFLINE": "1", "PATH": "/usr/bin"}
    with subprocess.Popen([sys.executable, "app.py"], cwd=space, env=environment) as server:
        try:
            page = wait_until_served(f"http://127.0.0.1:{port}/")
        finally:
            server.terminate()
    assert "Copy of YOSO" in page
