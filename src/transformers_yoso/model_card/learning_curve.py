"""Loss and validation PQ of a run over time, as a plot."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

Curve = tuple[list[float], list[float]]


def loss_curve(log: Sequence[dict[str, Any]], axis: str) -> Curve:
    """Positions and training losses of the lines that have both."""
    return _curve(log, axis, ("loss",), 1)


def quality_curve(log: Sequence[dict[str, Any]], axis: str) -> Curve:
    """Positions and PQ of all classes, in per cent, of the evaluations."""
    return _curve(log, axis, ("eval_pq_all", "eval_pq"), 100)


def time_axis(log: Sequence[dict[str, Any]]) -> str:
    """`images_seen` if every line tells it, else `step`."""
    return "images_seen" if log and all("images_seen" in line for line in log) else "step"


def draw_learning_curve(log: Sequence[dict[str, Any]], file: Path) -> bool:
    """Plots loss and PQ side by side into a PNG; without either of them nothing is written and the result is false."""
    axis = time_axis(log)
    panels = [("training loss", loss_curve(log, axis)), ("validation PQ (%)", quality_curve(log, axis))]
    panels = [(title, curve) for title, curve in panels if curve[0]]
    if not panels:
        return False
    from matplotlib.figure import Figure  # imported here: cards of checkpoints without a run do without it

    figure = Figure(figsize=(4.5 * len(panels), 3), layout="constrained")
    for axes, (title, (positions, values)) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
    ):
        axes.plot(positions, values, marker="." if len(positions) < 50 else None, linewidth=1.2)
        axes.set(title=title, xlabel=axis.replace("_", " "))
        axes.grid(alpha=0.3)
    figure.savefig(file, dpi=110)
    return True


def _curve(log: Sequence[dict[str, Any]], axis: str, names: Sequence[str], factor: float) -> Curve:
    points = [(line[axis], line[name]) for line in log for name in names if line.get(name) is not None]
    return [position for position, _ in points], [factor * value for _, value in points]
