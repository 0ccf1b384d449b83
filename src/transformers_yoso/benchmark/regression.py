"""Compares a run with a saved one by ratios to the bare backbone, which a slower or faster machine does not change."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .measure import FORWARD, Key
from .timing import median_ratio

REFERENCES = ("limit", "literal", "plain")
"""Whose forward all timings are divided by: the first one that was measured."""


def ratios_to_reference(times: Mapping[Key, list[float]]) -> dict[str, float]:
    """Of each "variant / part" the time as a multiple of the reference's forward; empty without any reference."""
    reference = next((name for name in REFERENCES if (name, FORWARD) in times), None)
    if reference is None:
        return {}
    base = times[reference, FORWARD]
    return {
        f"{variant} / {part} per {reference} forward": median_ratio(values, base)
        for (variant, part), values in times.items()
        if (variant, part) != (reference, FORWARD)
    }


@dataclass(frozen=True)
class Comparison:
    """What a comparison found.

    Attributes:
        slower: "size: what" with the saved ratio and the present one.
        missing: what only the saved run has.
        compared: how many ratios both have.
    """

    slower: dict[str, tuple[float, float]]
    missing: list[str]
    compared: int


def compare_runs(present: Mapping[str, Any], saved: Mapping[str, Any], tolerance: float) -> Comparison:
    """
    Args:
        present, saved: results as [`run_benchmark`] gives them.
        tolerance: a ratio may grow by this factor, for example 1.1.

    Raises:
        ValueError: a tolerance below 1, a saved file of another kind, or nothing to compare.
    """
    if tolerance < 1:
        raise ValueError(f"`tolerance` is a factor of at least 1, got {tolerance}.")
    if "ratios" not in saved:
        raise ValueError("The saved file has no `ratios`: it is no result of this benchmark.")
    if present["environment"]["device"] != saved["environment"]["device"]:
        raise ValueError(
            f"The saved run is of {saved['environment']['device']}, this one of {present['environment']['device']}."
        )
    then, now = (
        {f"{size}: {name}": ratio for size, ratios in run["ratios"].items() for name, ratio in ratios.items()}
        for run in (saved, present)
    )
    common = [name for name in then if name in now]
    if not common:
        raise ValueError(
            "This run and the saved one have no size, variant and part in common; both need the same one of the "
            f"variants {', '.join(REFERENCES)}, which others are compared with."
        )
    slower = {name: (then[name], now[name]) for name in common if now[name] > tolerance * then[name]}
    return Comparison(slower, [name for name in then if name not in now], len(common))


def describe(comparison: Comparison, tolerance: float) -> str:
    """Lines for the terminal."""
    lines = [f"compared {comparison.compared} ratios with the saved run, tolerance {tolerance:g}"]
    lines += [f"not measured now: {name}" for name in comparison.missing]
    for name, (then, now) in sorted(comparison.slower.items(), key=lambda item: item[1][0] / item[1][1]):
        lines.append(f"SLOWER {now / then:.2f}x: {name}: {then:.3f} -> {now:.3f}")
    if not comparison.slower:
        lines.append("nothing got slower")
    return "\n".join(lines)
