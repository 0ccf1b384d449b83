"""Conversion of official checkpoints: label tables, safe loading, strict key mapping, and the converted folder."""

import functools
import http.server
import json
import os
import pickle
import runpy
import sys
import threading
import zlib
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from transformers_yoso.conversion.checkpoint_loading import fetch_checkpoint, load_official_state_dict
from transformers_yoso.conversion.convert import convert_checkpoint, released_config, released_image_processor
from transformers_yoso.conversion.dataset_specs import DATASET_SPECS, get_dataset_spec
from transformers_yoso.conversion.official_keys import convert_official_state_dict
from transformers_yoso.models.image_processing_yoso import YosoImageProcessor
from transformers_yoso.models.modeling_yoso import YosoForUniversalSegmentation

SCRIPT = Path(__file__).parent.parent / "scripts" / "convert_checkpoint.py"


# Label tables and settings


@pytest.mark.parametrize("name", DATASET_SPECS)
def test_label_table_has_the_classes_of_the_spec(name):
    spec = get_dataset_spec(name)
    assert list(spec.id2label) == list(range(spec.num_labels))
    assert len(set(spec.id2label.values())) == spec.num_labels
    assert all(label == label.strip() and label for label in spec.id2label.values())
    assert len(spec.stuff_label_ids) == spec.num_stuff
    assert len(spec.label_colors) == spec.num_labels
    assert all(len(color) == 3 and all(0 <= value <= 255 for value in color) for color in spec.label_colors)


def test_coco_labels_are_the_official_categories_things_first(shared_dir):
    path = shared_dir / "data" / "coco_panoptic_sample" / "panoptic_coco_categories.json"
    categories = sorted(json.loads(path.read_text()), key=lambda category: (not category["isthing"], category["id"]))
    spec = get_dataset_spec("coco")
    assert list(spec.id2label.values()) == [category["name"] for category in categories]
    assert spec.label_colors == [tuple(category["color"]) for category in categories]
    assert spec.stuff_label_ids == list(range(80, 133))


def test_label_order_of_the_other_datasets():
    cityscapes, ade20k, mapillary = (DATASET_SPECS[name] for name in ("cityscapes", "ade20k", "mapillary"))
    assert cityscapes.stuff_label_ids == list(range(11))
    assert [cityscapes.id2label[index] for index in (0, 10, 11, 18)] == ["road", "sky", "person", "bicycle"]
    assert [ade20k.id2label[index] for index in (0, 7, 90, 149)] == ["wall", "bed", "plane", "flag"]
    assert ade20k.stuff_label_ids[:9] == [0, 1, 2, 3, 4, 5, 6, 9, 11]
    assert [mapillary.id2label[index] for index in (0, 13, 55, 64)] == ["Bird", "Road", "Car", "Ego Vehicle"]
    assert mapillary.stuff_label_ids[:3] == [2, 3, 4]


def test_unknown_dataset_is_refused_by_name():
    with pytest.raises(ValueError, match=r"'lvis'.*coco"):
        get_dataset_spec("lvis")


@pytest.mark.parametrize("name", DATASET_SPECS)
def test_processor_carries_the_settings_of_the_dataset(name):
    spec = get_dataset_spec(name)
    processor = released_image_processor(spec)
    assert dict(processor.size) == {"shortest_edge": spec.shortest_edge, "longest_edge": spec.longest_edge}
    assert processor.threshold == spec.object_threshold
    assert processor.overlap_mask_area_threshold == spec.overlap_threshold
    assert list(processor.label_ids_to_fuse) == spec.stuff_label_ids


# Safe loading


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


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("hide", [lambda evil: evil, lambda evil: np.array([evil], dtype=object)])
def test_refuses_a_file_that_carries_code_and_runs_none_of_it(tmp_path, zipped, hide):
    evidence = tmp_path / "created-by-the-checkpoint"
    checkpoint = {"model": small_state_dict(), "extra": hide(CreatesFile(evidence))}
    torch.save(checkpoint, tmp_path / "evil.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"Refused"):
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
def test_plain_pickle_with_code_is_refused(tmp_path):
    evidence = tmp_path / "created-by-the-checkpoint"
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps({"model": CreatesFile(evidence)}))
    with pytest.raises(ValueError, match="Refused"):
        load_official_state_dict(tmp_path / "evil.pkl")
    assert not evidence.exists()


@pytest.mark.parametrize("content", [b"", b"<html>404 Not Found</html>", b"PK\x03\x04 cut off"])
def test_damaged_file_is_a_clear_error(tmp_path, content):
    (tmp_path / "damaged.pth").write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged\.pth"):
        load_official_state_dict(tmp_path / "damaged.pth")


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


def test_release_address():
    expected = "https://github.com/hujiecpp/YOSO/releases/download/v0.1/yoso_res50_ade20k.pth"
    assert DATASET_SPECS["ade20k"].checkpoint_url == expected
