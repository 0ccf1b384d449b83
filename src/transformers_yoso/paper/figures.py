"""Pictures of the tables, by matplotlib."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..benchmark.plot import COLORS
from .model_parts import PARTS
from .table import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def new_figure(columns: int, rows: int = 1, size: tuple[float, float] = (4.8, 3.6)) -> "tuple[Figure, Sequence[Axes]]":
    """An empty picture with panels of a width and height in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(size[0] * columns + 0.6, size[1] * rows), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel in axes:
        panel.spines[["top", "right"]].set_visible(False)
    return figure, axes


def save(figure: "Figure", title: str, file: Path) -> None:
    """Writes the picture with its title."""
    figure.suptitle(title, fontsize=9)
    figure.savefig(file, dpi=130)


def plot_attention(table: Table, hardware: str, file: Path) -> None:
    """Table 6 as bars: operations, the paper's and ours, and latency."""
    figure, (operations, latency) = new_figure(2)
    names = [row["attention"] for row in table.rows]
    positions = range(len(names))
    for shift, column, color in ((-0.2, "paper, M", "#9d9da1"), (0.2, "counted, M", "#4c78a8")):
        bars = operations.bar([position + shift for position in positions], [row[column] for row in table.rows], 0.4)
        for bar in bars:
            bar.set_color(color)
        operations.bar_label(bars, fmt="%.1f", fontsize=8)
        bars.set_label(column.partition(",")[0])
    operations.set(ylabel="operations, M", xticks=list(positions), xticklabels=names)
    operations.legend(frameon=False)
    bars = latency.bar(names, [row["latency, ms"] for row in table.rows], color="#f58518")
    latency.bar_label(bars, fmt="%.2f", fontsize=8)
    latency.set(ylabel="latency, ms")
    save(figure, f"{table.title}; latency on {hardware}", file)


def plot_reduction(table: Table, file: Path) -> None:
    """Figure 5 (right): a line for each d over n."""
    figure, (axes,) = new_figure(1)
    queries = [row["n"] for row in table.rows]
    for column in list(table.rows[0])[1:]:
        axes.plot(queries, [row[column] for row in table.rows], marker="o", label=column)
    axes.set(xlabel="proposal kernels n", ylabel="operations of MHCA / SDCA", ylim=(0, None))
    axes.legend(frameon=False)
    save(figure, table.title, file)


def plot_sweeps(tables: Sequence[Table], hardware: str, file: Path) -> None:
    """Tables 7-10: operations of the decoder as bars, frames per second as a line."""
    figure, panels = new_figure(columns=2, rows=len(tables) // 2, size=(4.8, 2.8))
    for axes, table in zip(panels, tables, strict=True):
        symbol = next(iter(table.rows[0]))
        names = [row[symbol].partition(" ")[0] for row in table.rows]
        axes.bar(names, [row["decoder, G"] for row in table.rows], color="#c7d5e8")
        axes.set(xlabel=table.title.partition(": ")[2], ylabel="decoder, G multiply-adds")
        speed = axes.twinx()
        frames_per_second = [row["FPS"] for row in table.rows]
        speed.plot(names, frames_per_second, color="#f58518", marker="o")
        speed.set(ylim=(0, 1.25 * max(frames_per_second)))
        speed.set_ylabel("FPS", color="#f58518")
    save(figure, f"Tables 7-10; speed on {hardware}", file)


def plot_model_times(table: Table, hardware: str, file: Path) -> None:
    """Time by part, stacked."""
    figure, (axes,) = new_figure(1, size=(7.4, 3.6))
    names = [row["model, test size"] for row in table.rows]
    left = [0.0] * len(names)
    for part in PARTS:
        widths = [row[f"{part}, ms"] for row in table.rows]
        axes.barh(names, widths, left=left, color=COLORS[part], label=part)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    for position, row in enumerate(table.rows):
        axes.annotate(f" {row['FPS']:.2f} FPS", (left[position], position), va="center", fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set(xlabel="milliseconds (median), batch 1")
    axes.legend(frameon=False, fontsize=8)
    save(figure, f"{table.title}; {hardware}", file)


def plot_quality_over_speed(table: Table, hardware: str, file: Path) -> None:
    """Figure 4, YOSO's points: the paper's PQ over the paper's speed and over ours."""
    figure, (axes,) = new_figure(1, size=(7.4, 4.6))
    qualities = [row["paper, PQ"] for row in table.rows]
    ours, theirs = ([row[column] for row in table.rows] for column in ("FPS", "paper, FPS"))
    for row, *speeds, quality in zip(table.rows, ours, theirs, qualities, strict=True):
        axes.plot(speeds, [quality] * 2, color="#dddddd", zorder=0)
        axes.annotate(row["model, test size"], (speeds[1], quality), (5, 4), textcoords="offset points", fontsize=8)
    axes.scatter(theirs, qualities, color="#4c78a8", label="paper: V100, Mapillary A100")
    axes.scatter(ours, qualities, color="#f58518", label=f"ours: {hardware}")
    axes.set(xscale="log", xlabel="frames per second", ylabel="PQ on val, the paper's")
    axes.margins(x=0.2, y=0.1)
    figure.legend(frameon=False, fontsize=8, loc="outside lower center", ncols=2)
    save(figure, "Figure 4, YOSO's points: panoptic quality over speed", file)
