"""Time by part, stacked: one bar a variant, one panel a size."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .measure import FORWARD, POST_PROCESSING, STAGES

NETWORK_AS_A_WHOLE = "network as a whole"
COLORS = {
    "backbone": "#4c78a8",
    "neck": "#f58518",
    "decoder": "#54a24b",
    NETWORK_AS_A_WHOLE: "#9d9da1",
    POST_PROCESSING: "#b279a2",
}


def stacked_parts(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Milliseconds to stack: the stages, or the whole forward where there are none, then post-processing."""
    names = STAGES if all(name in parts for name in STAGES) else (FORWARD,)
    stacked = {NETWORK_AS_A_WHOLE if name == FORWARD else name: parts[name]["median_ms"] for name in names}
    if POST_PROCESSING in parts:
        stacked[POST_PROCESSING] = parts[POST_PROCESSING]["median_ms"]
    return stacked


def plot_times(timings: Mapping[str, Mapping[str, Mapping[str, Any]]], title: str, file: Path) -> None:
    """
    Args:
        timings: by size, variant and part, summaries with `median_ms`.
        title: of the figure, such as the hardware.
        file: picture to write.
    """
    from matplotlib.figure import Figure

    num_bars = max(map(len, timings.values()))
    figure = Figure(figsize=(6.5 * len(timings), 1.6 + 0.42 * num_bars), layout="constrained")
    for axes, (size, variants) in zip(
        figure.subplots(1, len(timings), squeeze=False)[0], timings.items(), strict=True
    ):
        bars = {name: stacked_parts(parts) for name, parts in variants.items() if FORWARD in parts}
        left = dict.fromkeys(bars, 0.0)
        for part, color in COLORS.items():
            widths = [bars[name].get(part, 0.0) for name in bars]
            if any(widths):
                axes.barh(list(bars), widths, left=list(left.values()), color=color, label=part)
            left = {name: left[name] + width for name, width in zip(bars, widths, strict=True)}
        for row, total in enumerate(left.values()):
            axes.annotate(f" {total:.4g}", (total, row), va="center", fontsize=8)
        axes.invert_yaxis()
        axes.margins(x=0.12)
        axes.set(title=size, xlabel="milliseconds (median), batch 1")
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle(title, fontsize=9)
    figure.savefig(file, dpi=130)
