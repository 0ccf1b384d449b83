"""Model card and upload: every number from a record, gaps marked, metadata the Hub reads, a folder that opens elsewhere."""

import io
import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image

from local_hub import LocalHub
from tiny_yoso import tiny_model
from transformers_yoso import YosoForUniversalSegmentation, YosoImageProcessor
from transformers_yoso.model_card import describe_hardware, publishing, push_folder_to_hub, write_model_card
from transformers_yoso.model_card.markdown_tables import without_folders

ROOT = Path(__file__).resolve().parents[1]
PHOTO = ROOT / "assets" / "facade_demo.jpg"
LABELS = ["window", "car", "shop", "facade", "street"]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    model = tiny_model(id2label=dict(enumerate(LABELS)), stuff_label_ids=[3, 4])
    for branch in model.class_branches:
        torch.nn.init.zeros_(branch.classifier.bias)
    folder = tmp_path / "yoso-tiny"
    model.save_pretrained(folder)
    YosoImageProcessor(
        size={"shortest_edge": 96, "longest_edge": 160}, threshold=0.0, overlap_mask_area_threshold=0.0
    ).save_pretrained(folder)
    return folder


def scores(pq: float, found: int = 3, false: int = 1, missed: int = 2) -> dict[str, Any]:
    counts = {"true_positives": found, "false_positives": false, "false_negatives": missed}
    return {"pq": pq, "sq": 0.75, "rq": pq / 0.75, **counts}


@pytest.fixture
def evaluation() -> dict[str, Any]:
    return {
        "all": {"pq": 0.31234, "sq": 0.7, "rq": 0.4, "num_classes": 4},
        "things": {"pq": 0.2, "sq": 0.6, "rq": 0.3, "num_classes": 2},
        "stuff": {"pq": 0.45, "sq": 0.8, "rq": 0.5, "num_classes": 2},
        "per_class": {
            0: scores(0.4),
            1: scores(0.0, found=0),
            2: scores(0.0, 0, 0, 0),
            3: scores(0.6),
            4: scores(0.3),
        },
        "num_images": 76,
        "split": "val",
    }


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    arguments = {"recipe": "finetune", "learning_rate": 5e-4, "dataset_dir": "/home/somebody/data/facade", "seed": 7}
    (folder / "arguments.json").write_text(json.dumps(arguments))
    record = {
        "steps": 200,
        "images_seen": 1200,
        "seconds": 5400.0,
        "num_processes": 2,
        "best_step": 100,
        "hardware": describe_hardware(torch.device("cpu")),
        "dataset": {
            "name": "Facades",
            "license": "cc-by-4.0",
            "source": "somebody/facades",
            "splits": {"train": {"num_images": 416}, "val": {"num_images": 76}},
        },
    }
    (folder / "run.json").write_text(json.dumps(record))
    lines = [
        {"step": 100, "loss": 44.5},
        {"step": 100, "eval_pq_all": 0.25},
        {"step": 200, "loss": 30.5},
        {"step": 200, "eval_pq_all": 0.22},
    ]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def table_rows(card: str) -> dict[str, list[str]]:
    """Cells of all table rows by their first cell."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in card.splitlines() if line.startswith("|")
    ]
    return {row[0]: row[1:] for row in rows}


def test_card_holds_the_numbers_of_the_records(checkpoint: Path, run_dir: Path, evaluation: dict[str, Any]) -> None:
    speed = {
        "hardware": {"cpu": "Some CPU", "cpu_cores": 2},
        "results": [{"what": "end to end", "size": [512, 800], "precision": "fp32", "milliseconds": 250.0}],
    }
    file = write_model_card(
        checkpoint,
        evaluation=evaluation,
        run_dir=run_dir,
        speed=speed,
        sample_photo=PHOTO,
        weights_license="cc-by-4.0",
        limits="Night photos were never seen.",
    )
    card = file.read_text()
    rows = table_rows(card)
    assert rows["**all** (4 classes)"][:3] == ["31.2", "70.0", "40.0"]
    assert rows["window"] == ["40.0", "75.0", "53.3", "3", "1", "2"]
    assert list(rows)[list(rows).index("window") :][:5] == LABELS
    assert (rows["train"], rows["val"]) == (["416"], ["76"])
    assert (rows["steps"], rows["photos seen"], rows["time"]) == (["200"], ["1200"], ["1 h 30 min"])
    assert (rows["recipe"], rows["seed"], rows["processes"]) == (["finetune"], ["7"], ["2"])
    assert rows["PQ during the run"] == ["last 22.0, best 25.0 at 100 step"]
    assert rows["`learning_rate`"] == ["`0.0005`"]
    assert f"torch {torch.__version__}" in rows["hardware"][0]
    assert rows["end to end"] == ["512x800", "fp32", "1", "250.0", "4.0"] and "Some CPU (2 cores)" in card
    assert "(best at step 100)" in card
    assert "Never found in the evaluated photos: car." in card
    assert "show none: shop." in card and "Night photos were never seen." in card
    assert "/home/somebody" not in card
    assert f"{tiny_size(checkpoint) / 1e6:.1f} M parameters" in card
    assert "not measured" not in card.lower().replace("photos of another kind were not measured", "").replace(
        "not measured, as the evaluated photos", ""
    )
    photo, picture = Image.open(PHOTO), Image.open(checkpoint / "sample.jpg")
    assert picture.size == photo.size
    repacked = io.BytesIO()
    photo.save(repacked, "JPEG", quality=88)
    rounding, painted = (
        np.abs(np.asarray(other, int) - np.asarray(photo, int)) for other in (Image.open(repacked), picture)
    )
    assert painted.max() > 2 * rounding.max()
    assert Image.open(checkpoint / "learning_curve.png").width > 500
    assert {"sample.jpg", "learning_curve.png"} == set(re.findall(r"!\[.*\]\((.*)\)", card))


def tiny_size(checkpoint: Path) -> int:
    return YosoForUniversalSegmentation.from_pretrained(checkpoint).num_parameters()


def test_metadata_is_what_the_hub_reads(checkpoint: Path, run_dir: Path, evaluation: dict[str, Any]) -> None:
    write_model_card(checkpoint, evaluation=evaluation, run_dir=run_dir, weights_license="cc-by-4.0")
    data = ModelCard.load(checkpoint / "README.md").data
    assert (data.library_name, data.pipeline_tag, data.license) == ("transformers", "image-segmentation", "cc-by-4.0")
    assert data.datasets == ["somebody/facades"] and "panoptic-segmentation" in data.tags
    results = {result.metric_name: result for result in data.eval_results}
    assert {name: result.metric_value for name, result in results.items()} == {
        "PQ": 31.23,
        "SQ": 70.0,
        "RQ": 40.0,
        "PQ things": 20.0,
        "PQ stuff": 45.0,
    }
    assert (results["PQ"].dataset_name, results["PQ"].dataset_split) == ("Facades", "val")
    assert data.to_dict()["model-index"][0]["name"] == "yoso-tiny"


def test_what_was_not_measured_is_said_and_not_invented(checkpoint: Path) -> None:
    card = write_model_card(checkpoint).read_text()
    assert "PQ, SQ and RQ: not measured." in card and "Its quality was not measured." in card
    assert "No record of a run." in card
    assert re.search(r"## Speed\n\nNot measured\.", card) and re.search(r"## Data\n\nNot stated\.", card)
    assert "Weights: not stated. Data: not stated." in card
    assert "![" not in card and not (checkpoint / "learning_curve.png").exists()
    metadata = ModelCard(card).data.to_dict()
    assert not {"license", "model-index", "datasets", "metrics"} & set(metadata)


def test_broken_records_are_named(checkpoint: Path, run_dir: Path, tmp_path: Path) -> None:
    before = write_model_card(checkpoint).read_text()
    with (run_dir / "log.jsonl").open("a") as stream:
        stream.write('{"step": 3, "lo')
    with pytest.raises(ValueError, match=r"log\.jsonl: line 5"):
        write_model_card(checkpoint, run_dir=run_dir)
    (tmp_path / "eval.json").write_text("[1, 2]")
    with pytest.raises(ValueError, match=r"eval\.json: the evaluation must be a JSON object"):
        write_model_card(checkpoint, evaluation=tmp_path / "eval.json")
    with pytest.raises(FileNotFoundError, match=r"none\.json"):
        write_model_card(checkpoint, evaluation=tmp_path / "none.json")
    with pytest.raises(FileNotFoundError, match=r"none\.jpg"):
        write_model_card(checkpoint, sample_photo=tmp_path / "none.jpg")
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        write_model_card(tmp_path)
    assert (checkpoint / "README.md").read_text() == before


def test_folders_are_cut_and_addresses_stay() -> None:
    command = "train.py --dataset_dir /data/x/facade --output_dir=/tmp/runs/a runs/b https://host/x/y lr 1/2"
    assert without_folders(command) == "train.py --dataset_dir facade --output_dir=a runs/b https://host/x/y lr 1/2"


def test_pushed_folder_opens_with_and_without_the_package(
    checkpoint: Path, run_dir: Path, evaluation: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "HfApi", LocalHub)
    monkeypatch.setattr(LocalHub, "repositories", tmp_path / "hub", raising=False)
    with pytest.raises(ValueError, match=r"lacks: card \(write_model_card\)"):
        push_folder_to_hub(checkpoint, "me/yoso-tiny")
    write_model_card(checkpoint, evaluation=evaluation, run_dir=run_dir, sample_photo=PHOTO)
    for name in ("checkpoint-00000004/optimizer.pt", "best/model.safetensors", "log.jsonl"):
        (checkpoint / name).parent.mkdir(exist_ok=True)
        (checkpoint / name).write_text("stays here")
    pushed = Path(push_folder_to_hub(checkpoint, "me/yoso-tiny"))

    names = {path.name for path in pushed.iterdir()}
    pictures = {"README.md", "sample.jpg", "learning_curve.png"}
    assert {"config.json", "preprocessor_config.json", "model.safetensors", "modeling_yoso.py"} | pictures <= names
    assert not {"checkpoint-00000004", "best", "log.jsonl"} & names

    script = (
        "import sys; sys.modules['transformers_yoso'] = None\n"
        "from transformers import pipeline\n"
        "segments = pipeline('image-segmentation', model=sys.argv[1], trust_remote_code=True)(sys.argv[2])\n"
        "print('found', len(segments), segments[0]['mask'].size)\n"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(tmp_path / "modules")}
    process = subprocess.run(
        [sys.executable, "-c", script, str(pushed), str(PHOTO)], capture_output=True, text=True, env=environment
    )
    assert process.returncode == 0, process.stderr
    assert re.search(r"found [1-9]\d* \(512, 512\)", process.stdout)
    opened = YosoForUniversalSegmentation.from_pretrained(pushed).state_dict()
    torch.testing.assert_close(
        opened, YosoForUniversalSegmentation.from_pretrained(checkpoint).state_dict(), rtol=0, atol=0
    )

    (checkpoint / "set_criterion.py").unlink()
    (checkpoint / "modeling_yoso.py").unlink()
    with pytest.raises(ValueError, match=r"remote code \(modeling_yoso\.py\)"):
        push_folder_to_hub(checkpoint, "me/yoso-tiny")


def test_command_writes_the_card(
    checkpoint: Path, run_dir: Path, evaluation: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_script(*arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", ["make_model_card.py", *map(str, arguments)])
        runpy.run_path(str(ROOT / "scripts" / "make_model_card.py"), run_name="__main__")

    evaluation |= {"dataset": "facade", "thresholds": {"threshold": 0.3}}
    (tmp_path / "eval.json").write_text(json.dumps(evaluation))
    run_script(checkpoint, "--evaluation", tmp_path / "eval.json")
    card = (checkpoint / "README.md").read_text()
    assert "76 photos, `threshold` 0.3" in card and "## Data\n\nfacade, licence: not stated." in card
    assert "best at step" not in card
    run_script(checkpoint, "--run", run_dir, "--evaluation", tmp_path / "eval.json", "--title", "Facades")
    card = (checkpoint / "README.md").read_text()
    assert "# Facades\n" in card and table_rows(card)["window"][0] == "40.0"
    with pytest.raises(SystemExit, match=r"No model card: .*no\.json"):
        run_script(checkpoint, "--evaluation", tmp_path / "no.json")
