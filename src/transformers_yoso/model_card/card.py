"""The `README.md` of a checkpoint folder, made from the records of its run, evaluation and measurements."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelCard

from ..models.configuration_yoso import YosoConfig
from ..models.image_processing_yoso import YosoImageProcessor
from ..models.modeling_yoso import YosoForUniversalSegmentation
from .learning_curve import draw_learning_curve, quality_curve, time_axis
from .limits import measured_limits
from .markdown_tables import (
    NOT_RECORDED,
    argument_table,
    describe,
    duration,
    markdown_table,
    percent,
    quality_table,
    speed_table,
    split_table,
    without_folders,
)
from .metadata import card_metadata, hub_id
from .records import CardRecords, Record
from .reported_quality import ReportedQuality
from .sample_picture import save_sample_picture

TEMPLATE = Path(__file__).with_name("template.md")
CARD_FILE, SAMPLE_FILE, CURVE_FILE = "README.md", "sample.jpg", "learning_curve.png"


def write_model_card(
    checkpoint: str | os.PathLike,
    *,
    evaluation: Record = None,
    run_dir: str | os.PathLike | None = None,
    dataset: Record = None,
    speed: Record = None,
    reported: Sequence[ReportedQuality] = (),
    sample_photo: str | os.PathLike | None = None,
    weights_license: str | None = None,
    title: str | None = None,
    hub_model_id: str | None = None,
    origin: str | None = None,
    limits: str | None = None,
) -> Path:
    """
    Writes `README.md` (with `sample.jpg` and `learning_curve.png` where there is something to show) into a checkpoint.

    Numbers come from the records only; a part without a record is marked as not measured.

    Args:
        checkpoint: folder with configuration, processor and weights.
        evaluation: scores in [0, 1] as `scripts/evaluate.py --output_json` writes them, a file or its content.
        run_dir: folder of the training run with `arguments.json`, `log.jsonl` and `run.json`, each if it is there.
        dataset: `name`, `license`, `source` and `splits` (counts by split); by default that of `run.json`.
        speed: `hardware` and `results`, each with `milliseconds`, `size`, `precision`, `batch_size` and `what`.
        reported: what a publication gives for these weights, one entry a setting.
        sample_photo: photo to segment for the picture.
        weights_license: Hub identifier, for example "cc-by-4.0".
        title: by default the folder's name.
        hub_model_id: name on the Hub for the example of use; by default the folder's name.
        origin: sentences about where the weights come from.
        limits: the author's own words about limits, beside those that follow from the records.

    Returns:
        The card's file.

    Raises:
        FileNotFoundError: the checkpoint or a named file is missing.
        ValueError: a record is broken; the message names the file.
    """
    folder = Path(checkpoint)
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder}: no checkpoint folder (config.json is missing).")
    config = YosoConfig.from_pretrained(folder)
    image_processor = YosoImageProcessor.from_pretrained(folder)
    records = CardRecords.read(evaluation, run_dir, dataset, speed, config.id2label)
    title = title or folder.resolve().name
    card = ModelCard.from_template(
        card_metadata(title, records, reported, weights_license),
        template_path=str(TEMPLATE),
        title=title,
        model_id=hub_model_id or folder.resolve().name,
        **model_facts(config),
        **measured_parts(records),
        has_remote_code=(folder / "modeling_yoso.py").is_file(),
        processor=image_processor,
        origin=origin,
        reported=reported,
        learning_curve=draw_learning_curve(records.log, folder / CURVE_FILE),
        sample=sample_facts(folder, image_processor, sample_photo),
        limits=[*measured_limits(config.num_queries, records), *([limits] if limits else [])],
        weights_license=weights_license,
    )
    unfinished = folder / f".unfinished-{CARD_FILE}"
    card.save(unfinished)
    return unfinished.replace(folder / CARD_FILE)


def measured_parts(records: CardRecords) -> dict[str, Any]:
    """Tables of the records, `None` where there is nothing to show."""
    has_run = records.run or records.arguments or records.log
    return {
        "dataset": records.dataset,
        "split_table": split_table(records.dataset["splits"]) if records.dataset.get("splits") else None,
        "evaluation": records.evaluation,
        "quality_table": quality_table(records.evaluation) if records.evaluation else None,
        "other_scores": other_scores(records.evaluation),
        "training_table": training_table(records) if has_run else None,
        "argument_table": argument_table(records.arguments) if records.arguments else None,
        "speed_table": speed_table(records.speed) if records.speed else None,
        "speed_hardware": describe(records.speed.get("hardware", {})),
    }


def model_facts(config: YosoConfig) -> dict[str, Any]:
    """Size, backbone and classes of the model."""
    with torch.device("meta"):
        num_parameters = YosoForUniversalSegmentation(config).num_parameters()
    num_stuff = len(set(config.stuff_label_ids))
    names = list(config.id2label.values())
    shown = names if len(names) <= 20 else [*names[:20], f"and {len(names) - 20} more"]
    return {
        "num_parameters": num_parameters,
        "backbone": getattr(config.backbone_config, "backbone", None) or config.backbone_config.model_type,
        "num_things": config.num_labels - num_stuff,
        "num_stuff": num_stuff,
        "labels": ", ".join(shown),
    }


def sample_facts(
    folder: Path, image_processor: YosoImageProcessor, photo: str | os.PathLike | None
) -> dict[str, Any] | None:
    """Draws the sample picture; `None` without a photo."""
    if photo is None:
        return None
    model = YosoForUniversalSegmentation.from_pretrained(folder)
    num_segments = save_sample_picture(model, image_processor, photo, folder / SAMPLE_FILE)
    return {"photo": Path(photo).name, "num_segments": num_segments}


def other_scores(evaluation: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Instance AP and mIoU in per cent, where they were measured."""
    scores = []
    if "ap" in evaluation.get("instance", {}):
        scores.append(("Instance AP", percent(evaluation["instance"]["ap"])))
    if "miou" in evaluation.get("semantic", {}):
        scores.append(("mIoU", percent(evaluation["semantic"]["miou"])))
    return scores


def training_table(records: CardRecords) -> str:
    """Recipe, steps, photos, time, hardware and PQ on the way."""
    run, arguments, log = records.run, records.arguments, records.log
    hardware = describe(run.get("hardware", {}))
    steps = run.get("steps", log[-1]["step"] if log else NOT_RECORDED)
    rows = [
        ("recipe", arguments.get("recipe") or "arguments below"),
        ("steps", steps),
        ("photos seen", run.get("images_seen", NOT_RECORDED)),
        ("time", duration(run.get("seconds"))),
        ("hardware", hardware),
        ("processes", run.get("num_processes", NOT_RECORDED)),
        ("precision", run.get("mixed_precision") or arguments.get("mixed_precision") or NOT_RECORDED),
        ("seed", run.get("seed", arguments.get("seed", NOT_RECORDED))),
    ]
    axis = time_axis(log)
    positions, values = quality_curve(log, axis)
    if values:
        best = max(range(len(values)), key=values.__getitem__)
        unit = axis.replace("_", " ")
        rows.append(
            ("PQ during the run", f"last {values[-1]:.1f}, best {values[best]:.1f} at {positions[best]} {unit}")
        )
    if "command" in run:
        rows.append(("command", f"`{without_folders(run['command'])}`"))
    base_model = arguments.get("model_name_or_path")
    if base_model:
        rows.append(("started from", hub_id(base_model) or Path(base_model).name))
    return markdown_table(["", ""], rows)
