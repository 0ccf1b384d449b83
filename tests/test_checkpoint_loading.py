"""Reading official checkpoints: no code of theirs runs, and every failure is a clear error."""

import functools
import http.server
import os
import pickle
import tarfile
import threading
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from transformers_yoso.conversion.checkpoint_loading import fetch_checkpoint, load_official_state_dict

REFUSED = r"needs code to be unpickled.*; it was refused and nothing of it ran; use the authors' release file\.$"
DAMAGED = r"damaged\.pth' is no PyTorch checkpoint or was cut off\."


class CreatesFile:
    """Unpickling this creates a file: stands for any code in a checkpoint."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def small_state_dict() -> OrderedDict:
    return OrderedDict({"a.weight": torch.arange(6.0).view(2, 3), "a.num_batches_tracked": torch.tensor(7)})


def assert_same_tensors(actual: dict, expected: dict) -> None:
    assert list(actual) == list(expected)
    for name, tensor in expected.items():
        assert actual[name].dtype == tensor.dtype
        assert torch.equal(actual[name], tensor)


@pytest.mark.parametrize("wrap", [lambda state: {"model": state, "iteration": 3}, lambda state: state])
def test_loads_a_detectron2_dict_and_a_bare_state_dict(tmp_path, wrap):
    torch.save(wrap(small_state_dict()), tmp_path / "official.pth")
    assert_same_tensors(load_official_state_dict(tmp_path / "official.pth"), small_state_dict())


def test_loads_numeric_arrays(tmp_path):
    arrays = {name: tensor.numpy() for name, tensor in small_state_dict().items()}
    torch.save({"model": arrays, "optimizer": {"lr": np.float64(1e-4)}}, tmp_path / "official.pth")
    assert_same_tensors(load_official_state_dict(tmp_path / "official.pth"), small_state_dict())


def test_loads_arrays_written_by_numpy_1(tmp_path):
    path = tmp_path / "official.pth"
    torch.save({"a": np.arange(3.0)}, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert_same_tensors(load_official_state_dict(path), {"a": torch.arange(3.0, dtype=torch.float64)})


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("hide", [lambda evil: evil, lambda evil: np.array([evil], dtype=object)])
def test_refuses_a_file_that_carries_code_and_runs_none_of_it(tmp_path, zipped, hide):
    evidence = tmp_path / "created-by-the-checkpoint"
    checkpoint = {"model": small_state_dict(), "extra": hide(CreatesFile(evidence))}
    torch.save(checkpoint, tmp_path / "evil.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=REFUSED):
        load_official_state_dict(tmp_path / "evil.pth")
    assert not evidence.exists()
    torch.load(tmp_path / "evil.pth", weights_only=False)
    assert evidence.exists(), "the payload of this test does not work"


def test_refusal_names_what_the_file_asked_for(tmp_path):
    torch.save({"model": CreatesFile(tmp_path / "x")}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match=r"evil\.pth.*mkdir"):
        load_official_state_dict(tmp_path / "evil.pth")
    torch.save({"model": torch.nn.Linear(2, 2)}, tmp_path / "module.pth")
    with pytest.raises(ValueError, match=r"torch\.nn\.modules\.linear\.Linear"):
        load_official_state_dict(tmp_path / "module.pth")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("protocol", [2, 4])
def test_plain_pickle_with_code_is_refused(tmp_path, protocol):
    evidence = tmp_path / "created-by-the-checkpoint"
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps({"model": CreatesFile(evidence)}, protocol=protocol))
    with pytest.raises(ValueError, match=REFUSED) as caught:
        load_official_state_dict(tmp_path / "evil.pkl")
    assert "weights_only" not in str(caught.value)
    assert not evidence.exists()


@pytest.mark.filterwarnings("ignore:.*torch.jit", "ignore:'torch.load' received a zip file")
def test_torchscript_file_is_refused(tmp_path):
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "script.pt"))
    with pytest.raises(ValueError, match=REFUSED) as caught:
        load_official_state_dict(tmp_path / "script.pt")
    assert "weights_only" not in str(caught.value)


def test_legacy_tar_file_is_refused(tmp_path):
    evidence = tmp_path / "created-by-the-checkpoint"
    with tarfile.open(tmp_path / "legacy.tar", "w") as archive:
        for name, content in (("storages", 0), ("tensors", 0), ("pickle", CreatesFile(evidence))):
            (tmp_path / name).write_bytes(pickle.dumps(content, protocol=2))
            archive.add(tmp_path / name, name)
    with pytest.raises(ValueError, match=REFUSED) as caught:
        load_official_state_dict(tmp_path / "legacy.tar")
    assert "weights_only" not in str(caught.value)
    assert not evidence.exists()


@pytest.mark.parametrize(
    "content", [b"", b"<html>404 Not Found</html>", b"PK\x03\x04 cut off", b"hello there\n" * 50, b"1,2,3\n"]
)
def test_damaged_file_is_a_clear_error(tmp_path, content):
    (tmp_path / "damaged.pth").write_bytes(content)
    with pytest.raises(ValueError, match=DAMAGED) as caught:
        load_official_state_dict(tmp_path / "damaged.pth")
    assert "weights_only" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("zipped", [True, False])
def test_truncated_file_is_a_clear_error(tmp_path, zipped):
    path = tmp_path / "damaged.pth"
    torch.save({"model": small_state_dict()}, path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=DAMAGED):
            load_official_state_dict(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch.zeros(2), "no state dict"),
        ({"model": [1, 2]}, "no state dict"),
        ({}, "no state dict"),
        ({"model": {"a": "text"}}, "'a' is not a tensor but a str"),
    ],
)
def test_file_without_a_state_dict_is_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=message):
        load_official_state_dict(tmp_path / "other.pth")


# Download


@pytest.fixture
def file_server(tmp_path):
    """Address of a local server of `tmp_path / "release"`."""
    (tmp_path / "release").mkdir()

    class QuietHandler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(QuietHandler, directory=tmp_path / "release")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def empty_hub_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch"


def test_download_is_made_once(tmp_path, file_server, empty_hub_dir):
    torch.save(small_state_dict(), tmp_path / "release" / "official.pth")
    path = fetch_checkpoint(f"{file_server}/official.pth")
    assert empty_hub_dir in path.parents
    assert_same_tensors(load_official_state_dict(path), small_state_dict())
    (tmp_path / "release" / "official.pth").unlink()
    assert fetch_checkpoint(f"{file_server}/official.pth") == path


def test_failed_download_is_a_clear_error_and_leaves_nothing(file_server, empty_hub_dir):
    with pytest.raises(ConnectionError, match=r"Could not download .*missing\.pth.*404"):
        fetch_checkpoint(f"{file_server}/missing.pth")
    with pytest.raises(ConnectionError, match="Offline"):
        fetch_checkpoint("http://127.0.0.1:9/official.pth")
    assert not [path for path in empty_hub_dir.rglob("*") if path.is_file()]


def test_missing_local_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.pth"):
        fetch_checkpoint(tmp_path / "nothing.pth")
