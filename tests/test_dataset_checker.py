"""The dataset checker finds every kind of fault, lists all of them, and its exit code tells."""

import json
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from panoptic_folders import copy_photos, edit_json
from transformers_yoso.data import CocoPanopticDataset, open_dataset
from transformers_yoso.data.checker import Limits, check_dataset, format_report, summarize, to_json

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "check_data.py"
COUNT = 2


@pytest.fixture(scope="module")
def facade(shared_dir) -> CocoPanopticDataset:
    return CocoPanopticDataset.from_folder(shared_dir / "data" / "facade", "val")


@pytest.fixture
def folder(facade, tmp_path) -> Path:
    return copy_photos(facade, COUNT, tmp_path / "data")


def check(folder: Path, splits: tuple[str, ...] = ("val",), limits: Limits | None = None, **options):
    return check_dataset(
        lambda split: open_dataset(dataset_dir=folder, split=split, validate=False),
        splits,
        limits or Limits(),
        **options,
    )


def found(checks) -> dict[str, list[str]]:
    """Messages by kind of fault, without classes that so few photos lack."""
    kinds: dict[str, list[str]] = {}
    for finding in to_json(checks)["findings"]:
        if finding["kind"] != "classes without segments":
            kinds.setdefault(finding["kind"], []).append(finding["message"])
    return kinds


def run_script(monkeypatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    return stop.value.code


def first(content: dict) -> dict:
    return content["annotations"][0]["segments_info"][0]


def test_sound_photos_have_no_findings_and_true_numbers(folder, facade):
    checks = check(folder)
    assert found(checks) == {}
    summary = summarize(checks[0])
    segments = [info for item in facade.annotations[:COUNT] for info in item["segments_info"]]
    windows = [info for info in segments if info["category_id"] == 1]
    pixels = sum(info["area"] for info in segments)
    assert summary["num_photos"] == summary["num_usable_photos"] == COUNT
    assert summary["segments_per_photo"]["largest"] == max(
        len(item["segments_info"]) for item in facade.annotations[:COUNT]
    )
    assert summary["classes"]["window"]["segments"] == len(windows)
    assert summary["classes"]["window"]["pixel_share"] == pytest.approx(sum(i["area"] for i in windows) / pixels)
    assert summary["void_share"] == pytest.approx(1 - pixels / (COUNT * 512 * 512))


JSON_FAULTS = {
    "unknown category": lambda content: first(content).update(category_id=99),
    "id without segment": lambda content: content["annotations"][0]["segments_info"].pop(0),
    "segment without pixels": lambda content: content["annotations"][0]["segments_info"].append(
        {"id": 500, "category_id": 1, "iscrowd": 0}
    ),
    "area contradicts the map": lambda content: first(content).update(area=3),
    "box contradicts the map": lambda content: first(content).update(bbox=[0, 0, 9, 9]),
    "faulty annotation": lambda content: content["annotations"].append({"image_id": 12345, "file_name": "x.png"}),
    "sizes differ": lambda content: content["images"][0].update(height=512, width=99),
    "no thing or no stuff class": lambda content: [item.update(isthing=1) for item in content["categories"]],
    "mostly crowd": lambda content: [item.update(iscrowd=1) for item in content["annotations"][0]["segments_info"]],
    "cannot be opened": lambda content: content["categories"].clear(),
}


@pytest.mark.parametrize("kind", JSON_FAULTS)
def test_fault_of_the_annotation_file_is_found(folder, kind):
    edit_json(folder / "panoptic_val.json", JSON_FAULTS[kind])
    assert kind in found(check(folder))


def test_faults_of_files_are_all_listed(facade, tmp_path):
    folder = copy_photos(facade, 6, tmp_path / "data")
    names = facade.image_names[:6]
    pngs = [annotation["file_name"] for annotation in facade.annotations[:6]]
    (folder / "val" / names[0]).unlink()
    (folder / "panoptic_val" / pngs[1]).write_bytes(b"no picture")
    half = folder / "val" / names[2]
    half.write_bytes(half.read_bytes()[:5000])
    Image.new("RGB", (64, 32)).save(folder / "panoptic_val" / pngs[3])
    Image.new("RGB", (512, 512)).save(folder / "panoptic_val" / pngs[4])  # all void
    shutil.copyfile(folder / "val" / names[4], folder / "val" / names[5])

    kinds = found(check(folder, num_workers=2))
    unreadable = "\n".join(kinds["missing or unreadable file"])
    assert len(kinds["missing or unreadable file"]) == 3
    assert all(name in unreadable for name in (names[0], pngs[1], names[2]))
    assert pngs[3] in kinds["sizes differ"][0] and "32x64" in kinds["sizes differ"][0]
    assert names[4] in kinds["photo without segments"][0]
    assert names[4] in kinds["photo twice in a split"][0] and names[5] in kinds["photo twice in a split"][0]
    assert len(kinds["segment without pixels"]) == len(facade.annotations[4]["segments_info"])


def test_limits_decide_what_is_normal(folder, facade):
    count = max(len(annotation["segments_info"]) for annotation in facade.annotations[:COUNT])
    kinds = found(check(folder, limits=Limits(num_queries=count - 1, max_void_share=0.0)))
    assert f"{count} segments for {count - 1} queries" in kinds["more segments than queries"][0]
    assert len(kinds["mostly void"]) == COUNT
    assert "more segments than queries" not in found(check(folder, limits=Limits(num_queries=count)))


def test_photos_of_two_splits_are_compared(facade, tmp_path):
    folder = copy_photos(facade, 2, tmp_path / "data", "train")
    copy_photos(facade, 2, tmp_path / "data", "val", start=2)
    assert found(check(folder, ("train", "val"))) == {}
    source, target = folder / "train" / facade.image_names[0], folder / "val" / facade.image_names[2]
    shutil.copyfile(source, target)
    (message,) = found(check(folder, ("train", "val")))["photo in two splits"]
    assert target.name in message and source.name in message

    photo = np.asarray(Image.open(source), dtype=np.int16)
    Image.fromarray(np.clip(photo + 6, 0, 255).astype(np.uint8)).save(target, quality=60)
    kinds = found(check(folder, ("train", "val")))
    assert "photo in two splits" not in kinds and target.name in kinds["photos of two splits look alike"][0]


def test_classes_are_compared_with_other_splits_and_the_checkpoint(facade, tmp_path):
    folder = copy_photos(facade, 1, tmp_path / "data", "train")
    copy_photos(facade, 1, tmp_path / "data", "val", start=1)
    labels = dict(facade.categories.id2label)
    assert "classes differ" not in found(check(folder, ("train", "val"), model_labels=labels))
    unknown = found(check(folder, ("train",), model_labels={**labels, 0: "door"}))["classes differ"]
    assert "does not know the classes ['window']" in unknown[0]
    edit_json(folder / "panoptic_val.json", lambda content: content["categories"][0].update(name="pane"))
    assert "panoptic_train.json" in found(check(folder, ("train", "val")))["classes differ"][0]


def test_command_reports_and_its_exit_code_tells(folder, facade, tmp_path, monkeypatch, capsys):
    report, sheet = tmp_path / "out" / "report.json", tmp_path / "out" / "sheet.png"
    options = ("--dataset_dir", folder, "--output_json", report, "--output_sheet", sheet)
    assert run_script(monkeypatch, *options) == 0
    assert "0 errors" in capsys.readouterr().out
    with Image.open(sheet) as picture:
        assert np.asarray(picture.convert("RGB")).std() > 20
    assert run_script(monkeypatch, *options[:2], "--strict") == 1  # two photos lack some classes

    edit_json(folder / "panoptic_val.json", lambda content: content["annotations"][0]["segments_info"].pop(0))
    (folder / "val" / facade.image_names[1]).unlink()
    assert run_script(monkeypatch, *options) == 1
    text = capsys.readouterr().out
    assert "ERROR: id without segment (1)" in text and "ERROR: missing or unreadable file (1)" in text
    assert facade.image_names[1] in text and "2 errors" in text
    result = json.loads(report.read_text())
    assert result["num_errors"] == 2
    assert {finding["index"] for finding in result["findings"] if finding["severity"] == "error"} == {0, 1}
    assert run_script(monkeypatch, "--dataset_dir", tmp_path / "nowhere") == 1


def test_long_lists_are_abridged_in_the_text_only(facade, tmp_path):
    folder = copy_photos(facade, 1, tmp_path / "data")
    edit_json(
        folder / "panoptic_val.json",
        lambda content: [info.update(area=1) for info in content["annotations"][0]["segments_info"]],
    )
    checks = check(folder)
    count = len(facade.annotations[0]["segments_info"])
    assert count > 10 and len(found(checks)["area contradicts the map"]) == count
    assert f"area contradicts the map ({count})" in format_report(checks) and "more (all are in" in format_report(
        checks
    )
