"""What the Hub reads of a card: tags, licence and the `model-index` of results."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from .records import CardRecords
from .reported_quality import ReportedQuality

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
METRICS = (
    ("PQ", "all", "pq"),
    ("SQ", "all", "sq"),
    ("RQ", "all", "rq"),
    ("PQ things", "things", "pq"),
    ("PQ stuff", "stuff", "pq"),
)


def card_metadata(
    title: str, records: CardRecords, reported: Sequence[ReportedQuality], weights_license: str | None
) -> ModelCardData:
    """Metadata block of the card; what is unknown is left out."""
    dataset, evaluation = records.dataset, records.evaluation
    results = measured_results(dataset, evaluation)
    results += [
        EvalResult(
            metric_type="panoptic_quality",
            metric_name=f"PQ, {quality.setting} (reported, not measured here)",
            metric_value=quality.panoptic_quality,
            source_name=quality.source_name,
            source_url=quality.source_url,
            **result_place(dataset, evaluation),
        )
        for quality in reported
    ]
    source = hub_id(dataset.get("source"))
    return ModelCardData(
        model_name=title if results else None,
        library_name="transformers",
        pipeline_tag="image-segmentation",
        license=weights_license,
        base_model=hub_id(records.arguments.get("model_name_or_path")),
        datasets=[source] if source else None,
        metrics=["panoptic_quality"] if results else None,
        tags=["panoptic-segmentation", "yoso", "vision"],
        eval_results=results or None,
    )


def measured_results(dataset: Mapping[str, Any], evaluation: Mapping[str, Any]) -> list[EvalResult]:
    """Results in per cent of an evaluation, one entry a metric."""
    return [
        EvalResult(
            metric_type="panoptic_quality" if key == "pq" else key,
            metric_name=name,
            metric_value=round(100 * evaluation[group][key], 2),
            **result_place(dataset, evaluation),
        )
        for name, group, key in METRICS
        if key in evaluation.get(group, {})
    ]


def result_place(dataset: Mapping[str, Any], evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Task, dataset and split of a result."""
    name = dataset.get("name") or "unnamed dataset"
    return {
        "task_type": "image-segmentation",
        "task_name": "Panoptic segmentation",
        "dataset_type": hub_id(dataset.get("source")) or re.sub(r"[^\w.-]+", "-", name.lower()),
        "dataset_name": name,
        "dataset_split": evaluation.get("split"),
    }


def hub_id(name: str | None) -> str | None:
    """`name` if it has the form of a Hub id, `owner/name`, and is no folder here."""
    return name if name and HUB_ID.fullmatch(name) and not Path(name).is_dir() else None
