"""Measured numbers as Markdown tables."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

NOT_MEASURED = "not measured"
NOT_RECORDED = "not recorded"

ABSOLUTE_PATH = re.compile(r"(?<![\w.:/~-])/(?:[^\s/'\",]+/)*([^\s/'\",]+)")


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table of text cells; `|` and line breaks inside of cells are escaped."""
    cells = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in (header, *rows)]
    rule = ["---"] * len(header)
    return "\n".join("| " + " | ".join(row) + " |" for row in (cells[0], rule, *cells[1:]))


def percent(value: float | None) -> str:
    """A share in [0, 1] as per cent with one decimal."""
    return NOT_MEASURED if value is None else f"{100 * value:.1f}"


def quality_table(evaluation: Mapping[str, Any]) -> str:
    """PQ, SQ and RQ in per cent of all, things, stuff and every class, with the counts of segments."""
    rows = []
    for group in ("all", "things", "stuff"):
        if group in evaluation:
            scores = evaluation[group]
            name = f"**{group}**" + (f" ({scores['num_classes']} classes)" if "num_classes" in scores else "")
            rows.append([name, *(percent(scores.get(key)) for key in ("pq", "sq", "rq")), "", "", ""])
    for name, scores in evaluation.get("per_class", {}).items():
        counts = [scores.get(key, "") for key in ("true_positives", "false_positives", "false_negatives")]
        rows.append([name, *(percent(scores.get(key)) for key in ("pq", "sq", "rq")), *counts])
    return markdown_table(["", "PQ", "SQ", "RQ", "found", "false", "missed"], rows)


def split_table(splits: Mapping[str, Mapping[str, Any]]) -> str:
    """Counts of every split."""
    keys = list(dict.fromkeys(key for counts in splits.values() for key in counts))
    header = ["split", *(key.removeprefix("num_").replace("_", " ") for key in keys)]
    rows = [
        [name, *(NOT_RECORDED if counts.get(key) is None else counts[key] for key in keys)]
        for name, counts in splits.items()
    ]
    return markdown_table(header, rows)


def speed_table(speed: Mapping[str, Any]) -> str:
    """One row a measurement: what, size, precision, batch, milliseconds and images per second."""
    rows = []
    for result in speed["results"]:
        batch_size = result.get("batch_size", 1)
        size = "x".join(map(str, result["size"])) if "size" in result else ""
        rate = 1000 * batch_size / result["milliseconds"]
        cells = (result.get("what", ""), size, result.get("precision", ""), batch_size)
        rows.append([*cells, f"{result['milliseconds']:.1f}", f"{rate:.1f}"])
    return markdown_table(["", "height x width", "precision", "batch", "ms", "images/s"], rows)


def argument_table(arguments: Mapping[str, Any]) -> str:
    """Resolved arguments, nested groups joined by a dot, without folders of the machine that ran them."""
    rows = [
        [f"`{name}`", f"`{without_folders(str(value))}`"] for name, value in flatten(arguments) if value is not None
    ]
    return markdown_table(["argument", "value"], rows)


def flatten(nested: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Leaves of nested mappings with dotted names, in order."""
    leaves: list[tuple[str, Any]] = []
    for name, value in nested.items():
        leaves += flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(f"{prefix}{name}", value)]
    return leaves


def without_folders(text: str) -> str:
    """Absolute paths cut to their last part, as a card is for others' machines; addresses stay."""
    return ABSOLUTE_PATH.sub(r"\1", text)


def describe(hardware: Mapping[str, Any]) -> str:
    """Hardware and versions in one line."""
    parts = []
    if "gpu" in hardware:
        parts.append(f"{hardware.get('num_gpus', 1)} x {hardware['gpu']} ({hardware.get('gpu_memory_gib', '?')} GiB)")
    if "cpu" in hardware:
        threads = f", {hardware['cpu_threads']} threads" if "cpu_threads" in hardware else ""
        parts.append(f"{hardware['cpu']} ({hardware.get('cpu_cores', '?')} cores{threads})")
    if "memory_gib" in hardware:
        parts.append(f"{hardware['memory_gib']} GiB memory")
    parts += [f"{name} {hardware[name]}" for name in ("torch", "transformers") if name in hardware]
    return ", ".join(parts) or NOT_RECORDED


def duration(seconds: float | None) -> str:
    """Hours and minutes."""
    if seconds is None:
        return NOT_RECORDED
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{seconds / 60:.1f} min"
