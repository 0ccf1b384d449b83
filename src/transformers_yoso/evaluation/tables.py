"""Scores as a text table in per cent."""

from collections.abc import Mapping, Sequence
from typing import Any

_NAME_WIDTH = 28


def format_table(result: Mapping[str, Any], id2label: Mapping[int, str]) -> str:
    """
    The result of `evaluate_model` as text: PQ of all, things, stuff and each class, then AP and IoU if they are there.

    Args:
        result: of `evaluate_model`, with label ids as keys of each `per_class`.
        id2label: names of the labels.
    """
    blocks = []
    if "all" in result:
        blocks.append(_panoptic_rows(result, id2label))
    if "instance" in result:
        blocks.append(_instance_rows(result["instance"], id2label))
    if "semantic" in result:
        blocks.append(_semantic_rows(result["semantic"], id2label))
    return "\n\n".join("\n".join(rows) for rows in blocks)


def _panoptic_rows(result: Mapping[str, Any], id2label: Mapping[int, str]) -> list[str]:
    rows = [_row("", ["PQ", "SQ", "RQ", "TP", "FP", "FN"])]
    for name in ("all", "things", "stuff"):
        group = result[name]
        rows.append(_row(f"{name} ({group['num_classes']} classes)", [group[key] for key in ("pq", "sq", "rq")]))
    for label, scores in result["per_class"].items():
        keys = ("pq", "sq", "rq", "true_positives", "false_positives", "false_negatives")
        rows.append(_row(id2label[label], [scores[key] for key in keys]))
    return rows


def _instance_rows(result: Mapping[str, Any], id2label: Mapping[int, str]) -> list[str]:
    keys = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
    rows = [_row("", ["AP", "AP50", "AP75", "APs", "APm", "APl"])]
    rows.append(_row(f"things ({len(result['per_class'])} classes)", [result[key] for key in keys]))
    rows += [_row(id2label[k], [scores[key] for key in keys[:3]]) for k, scores in result["per_class"].items()]
    return rows


def _semantic_rows(result: Mapping[str, Any], id2label: Mapping[int, str]) -> list[str]:
    rows = [_row("", ["IoU", "Acc"])]
    rows.append(_row(f"mean ({result['num_classes']} classes)", [result["miou"], result["mean_accuracy"]]))
    rows.append(_row("all pixels", ["", result["pixel_accuracy"]]))
    rows += [_row(id2label[k], [scores["iou"], scores["accuracy"]]) for k, scores in result["per_class"].items()]
    return rows


def _row(name: str, values: Sequence[Any]) -> str:
    return f"{name[: _NAME_WIDTH - 1]:{_NAME_WIDTH}s}" + "".join(f"{_cell(value):>7s}" for value in values)


def _cell(value: Any) -> str:
    """Fractions in per cent, counts and headings as they are, nothing known as a dash."""
    if value is None:
        return "-"
    return f"{100 * value:.1f}" if isinstance(value, float) else str(value)
