"""Prediction of whole datasets by shards: two processes, a kill and a restart, photos and tables, bad input."""

import json
import os
import runpy
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from panoptic_folders import coco_categories, segments_info_table
from training_runs import ROOT, launch
from transformers_yoso.bulk import PredictionJob, open_shards
from transformers_yoso.data import CocoPanopticDataset
from transformers_yoso.inference import YosoPredictor
from transformers_yoso.models.image_processing_yoso import YosoImageProcessor

SCRIPT = ROOT / "scripts" / "predict_dataset.py"
TWO_PROCESSES = ("--num_processes", "2", "--multi_gpu", "--main_process_port", "0")
NUM_SHARDS = 6


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """The facade checkpoint, for a small size and many segments."""
    folder = tmp_path_factory.mktemp("checkpoint")
    source = ROOT / "checkpoints" / "yoso-lite0-facade"
    for name in ("config.json", "model.safetensors"):
        (folder / name).symlink_to(source / name)
    changes = {"threshold": 0.05, "overlap_mask_area_threshold": 0.3}
    size = {"shortest_edge": 128, "longest_edge": 213}
    YosoImageProcessor.from_pretrained(source, size=size, **changes).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def parquet_folder(photos, tmp_path_factory) -> Path:
    """Twelve photos in six parquet files."""
    folder = tmp_path_factory.mktemp("parquet")
    table = segments_info_table(photos, 2 * NUM_SHARDS)
    for k in range(NUM_SHARDS):
        part = table.shard(NUM_SHARDS, k, contiguous=True)
        part.to_parquet(folder / f"val-{k:05d}-of-{NUM_SHARDS:05d}.parquet")
    return folder


def command(checkpoint: Path, dataset_dir: Path, output_dir: Path, *more: object) -> list[str]:
    places = ("--model_name_or_path", checkpoint, "--dataset_dir", dataset_dir, "--output_dir", output_dir)
    return [str(SCRIPT), *map(str, (*places, "--use_cpu", *more))]


def start_two(arguments: list[str]) -> psutil.Popen:
    return launch([sys.executable, "-m", "accelerate.commands.launch", *TWO_PROCESSES, *arguments])


def finished_shards(output_dir: Path) -> dict[str, int]:
    """Time of the last change of each finished shard's files."""
    folders = (output_dir / "panoptic").glob("val-*")
    return {folder.name: max(file.stat().st_mtime_ns for file in folder.iterdir()) for folder in folders}


def kill_after_first_shard(arguments: list[str], output_dir: Path) -> None:
    """SIGKILL to the launcher and both processes as soon as one shard is there."""
    process = start_two(arguments)
    deadline = time.monotonic() + 300
    while not finished_shards(output_dir) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    for member in family:
        os.kill(member.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    psutil.wait_procs(family, timeout=60)


def run_here(monkeypatch, arguments: list[str]) -> None:
    monkeypatch.setattr(sys, "argv", arguments)
    runpy.run_path(str(SCRIPT), run_name="__main__")


def files_of(output_dir: Path) -> dict[str, bytes]:
    paths = [path for path in output_dir.rglob("*") if path.is_file() and path.name != "job.json"]
    return {path.relative_to(output_dir).as_posix(): path.read_bytes() for path in paths}


def test_job_that_broke_off_goes_on(checkpoint, parquet_folder, tmp_path):
    """Broken off within the second shard: the first stays as it is, and in the end all is as without the break."""
    shards, predictor = open_shards(dataset_dir=parquet_folder)[:3], YosoPredictor.from_pretrained(checkpoint)

    def job(name: str) -> PredictionJob:
        return PredictionJob(tmp_path / name, shards, {"model": "facade"})

    def break_off() -> None:
        raise KeyboardInterrupt

    broken = job("broken")
    first, second, third = broken.prepare()
    broken.predict(predictor, first)
    with pytest.raises(KeyboardInterrupt):
        broken.predict(predictor, second, on_photo=break_off)
    before = finished_shards(tmp_path / "broken")
    assert list(before) == [first]
    restarted = job("broken")
    assert restarted.prepare() == [second, third]
    for name in (third, second):  # in any order, as by several processes
        restarted.predict(predictor, name)
    restarted.merge([])
    assert finished_shards(tmp_path / "broken")[first] == before[first]
    whole = job("whole")
    for name in whole.prepare():
        whole.predict(predictor, name)
    merged = whole.merge([])
    assert files_of(tmp_path / "broken") == files_of(tmp_path / "whole")
    assert [image["id"] for image in merged["images"]] == [row for shard in shards for row in ids_of(shard)]


def ids_of(shard) -> list[int]:
    return [photo.image_id for photo in shard]


@pytest.mark.slow
def test_killed_job_of_two_processes_goes_on_and_equals_one_that_was_not(
    checkpoint, parquet_folder, photos, tmp_path, monkeypatch
):
    categories = tmp_path / "categories.json"
    categories.write_text(json.dumps(coco_categories(photos)))
    options = ("--categories_file", categories)
    arguments = command(checkpoint, parquet_folder, tmp_path / "killed", *options)
    kill_after_first_shard(arguments, tmp_path / "killed")
    before = finished_shards(tmp_path / "killed")
    assert 0 < len(before) < NUM_SHARDS and not (tmp_path / "killed" / "panoptic.json").exists()

    process = start_two(arguments)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output[-3000:]
    after = finished_shards(tmp_path / "killed")
    assert len(after) == NUM_SHARDS and {name: after[name] for name in before} == before  # none was written again

    run_here(monkeypatch, command(checkpoint, parquet_folder, tmp_path / "whole", *options))
    assert files_of(tmp_path / "killed") == files_of(tmp_path / "whole")

    result = CocoPanopticDataset(photos.image_folder, tmp_path / "whole/panoptic", tmp_path / "whole/panoptic.json")
    expected = [annotation["image_id"] for annotation in photos.annotations[: 2 * NUM_SHARDS]]
    assert [annotation["image_id"] for annotation in result.annotations] == expected
    assert result.categories == photos.categories
    predictor = YosoPredictor.from_pretrained(str(checkpoint), device="cpu")
    records = [result.read_record(index) for index in (0, 1, 11)]
    predictions = predictor([photos[index].file_name for index in (0, 1, 11)])
    for record, prediction in zip(records, predictions, strict=True):
        assert len(record.segments_info) == len(prediction.segments)
        assert np.array_equal(record.ids, prediction.map)
    assert sum(len(record.segments_info) for record in records) > 2


def test_photo_files_in_groups(checkpoint, shared_dir, tmp_path, monkeypatch, capsys):
    """COCO's layout, ids from the names; a photo that cannot be read is told and does not stop the others."""
    source = shared_dir / "data" / "coco_panoptic_sample" / "val2017"
    folder = tmp_path / "coco" / "val2017"
    shutil.copytree(source, folder)
    (folder / "broken.jpg").write_bytes(b"no photo")
    arguments = command(checkpoint, tmp_path / "coco", tmp_path / "out", "--split", "val2017", "--shard_size", 2)
    with pytest.raises(SystemExit):
        run_here(monkeypatch, arguments)
    assert "not read: broken.jpg" in capsys.readouterr().err
    merged = json.loads((tmp_path / "out" / "panoptic.json").read_text())
    assert [image["id"] for image in merged["images"]] == [142238, 439180]
    assert {len(list(shard)) for shard in open_shards(dataset_dir=folder, shard_size=2)} == {1, 2}
    for image, annotation in zip(merged["images"], merged["annotations"], strict=True):
        with Image.open(tmp_path / "out" / "panoptic" / annotation["file_name"]) as png:
            assert png.size == (image["width"], image["height"]) and annotation["image_id"] == image["id"]


def test_jobs_are_not_mixed(parquet_folder, tmp_path):
    shards = open_shards(dataset_dir=parquet_folder)
    assert [shard.name for shard in shards] == [f"val-{k:05d}-of-00006" for k in range(NUM_SHARDS)]
    job = PredictionJob(tmp_path, shards, {"model": "a", "size": [512, 800]})
    assert job.prepare() == [shard.name for shard in shards]
    with pytest.raises(ValueError, match=r"other settings \(model: a, now b\)"):
        PredictionJob(tmp_path, shards, {"model": "b", "size": [512, 800]})
    with pytest.raises(ValueError, match=r"shards: 6 from val-00000-of-00006 on, now \['val-00000-of-00006'\]"):
        PredictionJob(tmp_path, shards[:1], {"model": "a", "size": [512, 800]})
    with pytest.raises(ValueError, match="6 shards are not predicted yet, the first is val-00000"):
        job.merge([])


def test_shards_of_other_photos_are_another_job(photos, tmp_path):
    """Six photos by fours or by threes: two shards either way, but not of the same photos."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for k in range(6):
        shutil.copyfile(photos[k].file_name, folder / f"{k}.jpg")
    PredictionJob(tmp_path / "out", open_shards(dataset_dir=folder, shard_size=4), {}).prepare()
    PredictionJob(tmp_path / "out", open_shards(dataset_dir=folder, shard_size=4), {})
    by_threes = open_shards(dataset_dir=folder, shard_size=3)
    assert len(by_threes) == 2
    with pytest.raises(ValueError, match=r"other settings \(shards: .*4 files.*, now .*3 files"):
        PredictionJob(tmp_path / "out", by_threes, {})
    (folder / "5.jpg").rename(folder / "6.jpg")
    with pytest.raises(ValueError, match="other settings"):
        PredictionJob(tmp_path / "out", open_shards(dataset_dir=folder, shard_size=4), {})


def test_finished_job_is_merged_again_by_one_process(checkpoint, shared_dir, tmp_path, monkeypatch, capsys):
    source = shared_dir / "data" / "coco_panoptic_sample"
    arguments = command(checkpoint, source, tmp_path, "--split", "val2017", "--shard_size", 1)
    run_here(monkeypatch, arguments)
    before = files_of(tmp_path)
    (tmp_path / "panoptic.json").unlink()
    capsys.readouterr()
    process = start_two(arguments)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output[-3000:]
    assert output.count("2 photos in") == 1
    assert files_of(tmp_path) == before


def test_what_is_no_dataset_is_explained(parquet_folder, photos, tmp_path):
    with pytest.raises(ValueError, match="exactly one"):
        open_shards()
    with pytest.raises(FileNotFoundError, match="nowhere"):
        open_shards(dataset_dir=tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("no photos")
    with pytest.raises(ValueError, match=r"Expected COCO panoptic.*found notes\.txt"):
        open_shards(dataset_dir=tmp_path)
    with pytest.raises(ValueError, match=r"no column 'photo'; it has \['image', "):
        open_shards(dataset_dir=parquet_folder, image_column_name="photo")
    with pytest.raises(ValueError, match="no split 'test'"):
        open_shards(dataset_dir=parquet_folder, split="test")
    for name in ("a.jpg", "a.png"):
        shutil.copyfile(photos[0].file_name, tmp_path / name)
    with pytest.raises(ValueError, match=r"a\.jpg and a\.png would have one image id"):
        open_shards(dataset_dir=tmp_path)
