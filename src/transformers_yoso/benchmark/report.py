"""The benchmark's report in Markdown."""

from collections.abc import Iterable, Mapping
from typing import Any

from ..model_card.markdown_tables import markdown_table
from .environment import MEMORY_ALLOCATORS
from .measure import END_TO_END, FORWARD, FROM_IMAGE, POST_PROCESSING, SHARED, STAGES

PARTS = (*STAGES, FORWARD, POST_PROCESSING, END_TO_END, FROM_IMAGE)


def number(value: float | None, unit: str = "") -> str:
    """A value with as many digits as it deserves; a dash for none."""
    if value is None:
        return "-"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 3
    return f"{value:.{digits}f}{' ' + unit if unit else ''}"


def summary_table(summary: Mapping[str, list[dict[str, Any]]]) -> str:
    """Ours, target and literal code for each size."""
    header = [""]
    for size in summary:
        header += [size, "target", "literal"]
    rows = []
    for lines in zip(*summary.values(), strict=True):
        cells = [lines[0]["title"]]
        for line in lines:
            sign = "≥" if line["at_least"] else "≤"
            target = "-" if line["target"] is None else f"{sign} {line['target']:g}"
            mark = {True: " ✓", False: " ✗", None: ""}[line["reached"]]
            cells += [number(line["ours"], line["unit"]) + mark, target, number(line["literal"], line["unit"])]
        rows.append(cells)
    return markdown_table(header, rows)


def times_table(variants: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Median and interquartile range of every variant and part."""
    rows = []
    for name, parts in variants.items():
        if name != SHARED:
            rows.append([name, *(cell(parts.get(part)) for part in PARTS)])
    return markdown_table(["ms: median (quartiles)", *PARTS], rows)


def shared_table(parts: Mapping[str, Mapping[str, float]]) -> str:
    """The steps around the network."""
    return markdown_table(["ms: median (quartiles)", *parts], [["", *map(cell, parts.values())]])


def cell(timing: Mapping[str, float] | None) -> str:
    """Median (first quartile-third quartile)."""
    if timing is None:
        return ""
    return f"{timing['median_ms']:.4g} ({timing['q1_ms']:.4g}-{timing['q3_ms']:.4g})"


def environment_lines(environment: Mapping[str, Any], arguments: Mapping[str, Any]) -> list[str]:
    """Hardware, software and settings."""
    return [f"- {name.replace('_', ' ')}: {value}" for name, value in {**environment, **arguments}.items()]


def memory_table(sizes: Mapping[str, Mapping[str, Any]]) -> str:
    """Extra peak memory by variant, allocator and size, with the reason where there is no number."""
    names = list(dict.fromkeys(name for size in sizes.values() for name in size["memory_mb"]))
    missing = {name: reason for size in sizes.values() for name, reason in size["memory_not_measured"].items()}
    rows = [
        [name, allocator, *(number(size["memory_mb"].get(name, {}).get(allocator), "MB") for size in sizes.values())]
        for name in names
        for allocator in MEMORY_ALLOCATORS
    ]
    lines = [markdown_table(["above the loaded model", "allocator", *sizes], rows)]
    lines += [f"\nNot measured: {name}: {reason}" for name, reason in missing.items() if name not in names]
    return "\n".join(lines)


def agreement_table(sizes: Mapping[str, Mapping[str, Any]]) -> str:
    """Share of grid cells whose strongest query is that of plain float32."""
    names = list(dict.fromkeys(name for size in sizes.values() for name in size["agreement"]))
    rows = [[name, *(number(size["agreement"].get(name)) for size in sizes.values())] for name in names]
    return markdown_table(["strongest query as in plain fp32", *sizes], rows)


def accuracy_table(accuracy: Mapping[str, Mapping[str, float | None]]) -> str:
    """Agreement with plain float32 on photos, and panoptic quality."""
    rows = [
        [name, number(scores["equal_segments"]), number(scores["equal_classes"]), number(percent(scores["pq"]))]
        for name, scores in accuracy.items()
    ]
    return markdown_table(["", "pixels with equal segment id", "pixels with equal class", "PQ"], rows)


def percent(share: float | None) -> float | None:
    """A share in per cent."""
    return None if share is None else 100 * share


def ablation_table(sizes: Mapping[str, Mapping[str, Any]]) -> str:
    """Forward without one transformation over forward with all."""
    first = next(iter(sizes.values()))["ablation"]
    rows = [
        [name, entry["what"], *(number(size["ablation"][name]["ratio"]) for size in sizes.values())]
        for name, entry in first.items()
    ]
    return markdown_table(["without", "what it does", *sizes], rows)


def profile_table(kernels: Iterable[Mapping[str, Any]]) -> str:
    """The slowest operators or kernels."""
    rows = [
        [
            f"`{kernel['name'][:100]}`",
            f"{kernel['calls']:.4g}",
            number(kernel["milliseconds"]),
            f"{kernel['share']:.1%}",
        ]
        for kernel in kernels
    ]
    return markdown_table(["operator or kernel", "calls", "ms a forward", "share"], rows)


def render(result: Mapping[str, Any]) -> str:
    """The whole report of a result as [`run_benchmark`] gives it."""
    sizes = result["sizes"]
    lines = ["# Benchmark", "", *environment_lines(result["environment"], result["arguments"]), ""]
    lines += ["## Summary", "", summary_table(result["summary"]), ""]
    ours = next(iter(result["summary"].values()))[0]["variant"]
    lines += [f"Ours is `{ours}` unless a row names another precision. Ratios are medians of those of each round.", ""]
    if result["unavailable"]:
        lines += ["## Not measured", ""]
        lines += [f"- `{name}`: {reason}" for name, reason in result["unavailable"].items()] + [""]
    for name, size in sizes.items():
        lines += [f"## {name}", "", times_table(size["timings"]), ""]
        lines += [shared_table(size["timings"][SHARED]), ""]
    lines += ["## Extra peak memory of full inference", "", memory_table(sizes), ""]
    lines += ["## Agreement, random weights", "", agreement_table(sizes), ""]
    if result["accuracy"]:
        lines += [f"## Accuracy, {result['accuracy']['checkpoint']} on {result['accuracy']['photos']}", ""]
        lines += [accuracy_table(result["accuracy"]["variants"]), ""]
        lines += [f"- `{name}`: {reason}" for name, reason in result["accuracy"]["unavailable"].items()] + [""]
    if all(size.get("ablation") for size in sizes.values()):
        lines += [
            "## Ablation: forward without one of the steps of `fuse()` / with all",
            "",
            ablation_table(sizes),
            "",
        ]
    for name, size in sizes.items():
        for variant, kernels in size["profile"].items():
            lines += [f"## Profile of `{variant}` at {name}", "", profile_table(kernels), ""]
    return "\n".join(lines)
