"""The promised ratios and rates, computed from one run, with their targets beside."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import numpy as np

from .environment import MEMORY_ALLOCATORS
from .measure import END_TO_END, FORWARD, FROM_IMAGE, POST_PROCESSING, Key
from .timing import median_ratio

SIZES = ("512x800", "800x1344")
"""Input sizes that have targets; other ones are reported without."""


@dataclass(frozen=True)
class Measurements:
    """What one size gave.

    Attributes:
        times: milliseconds by (variant, part), round by round.
        memory_mb: extra peak memory by variant and by allocator of `MEMORY_ALLOCATORS`.
        precision: the reduced precision that was measured, "bf16" or "fp16".
    """

    times: Mapping[Key, list[float]]
    memory_mb: Mapping[str, Mapping[str, float]]
    precision: str

    def ratio(self, numerator: Key, denominator: Key) -> float | None:
        """Median ratio of two timings, if both were taken."""
        if numerator not in self.times or denominator not in self.times:
            return None
        return median_ratio(self.times[numerator], self.times[denominator])

    def forward_ratio(self, variant: str, other: str) -> float | None:
        """Forward of one variant over that of another one."""
        return self.ratio((variant, FORWARD), (other, FORWARD))

    def rate(self, variant: str, part: str) -> float | None:
        """Images a second."""
        times = self.times.get((variant, part))
        return None if times is None else 1000 / float(np.median(times))

    def first(self, *names: str) -> str:
        """The first of these variants that was measured, or the last one."""
        return next((name for name in names if (name, FORWARD) in self.times), names[-1])


@dataclass(frozen=True)
class Row:
    """One line of a summary.

    Attributes:
        title: what is measured.
        targets: by input size of `SIZES`; `None` where there is none.
        measure: the value of a variant of ours at one size, or `None` if a part of it was not measured.
        unit: of the value, empty for a ratio.
        at_least: whether more is better.
    """

    title: str
    targets: tuple[float | None, float | None]
    measure: Callable[[Measurements, str], float | None]
    unit: str = ""
    at_least: bool = False


@dataclass(frozen=True)
class Line:
    """A row filled in: values of ours and of the literal code, and whether ours reaches the target."""

    title: str
    unit: str
    variant: str
    ours: float | None
    literal: float | None
    target: float | None
    at_least: bool
    reached: bool | None


ROWS = (
    Row("forward fp32 / limit", (1.68, 1.70), lambda run, name: run.forward_ratio(name, "limit")),
    Row(
        "end to end (tensor -> id map at original size) / literal",
        (0.40, 0.38),
        lambda run, name: run.ratio((name, END_TO_END), ("literal", END_TO_END)),
    ),
    Row(
        "forward bf16 / forward fp32",
        (0.57, 0.52),
        lambda run, name: run.forward_ratio(f"{name}+bf16", name),
    ),
    Row("forward / Mask2Former R50", (0.20, 0.18), lambda run, name: run.forward_ratio(name, "mask2former")),
    Row("forward / MaskFormer R50", (0.62, 0.62), lambda run, name: run.forward_ratio(name, "maskformer")),
    Row(
        "post-processing / literal (20 of 100 kept)",
        (0.20, 0.20),
        lambda run, name: run.ratio((name, POST_PROCESSING), ("literal", POST_PROCESSING)),
    ),
    *(
        Row(
            f"extra peak memory, full inference, {allocator}",
            (150, 350),
            lambda run, name, allocator=allocator: run.memory_mb.get(name, {}).get(allocator),
            unit="MB",
        )
        for allocator in MEMORY_ALLOCATORS
    ),
)


def speedup(run: Measurements, name: str, peer: str) -> float | None:
    """Times that a variant is faster than a peer, which runs in the best form that was measured."""
    forms = [f"{peer}+{run.precision}+compiled", f"{peer}+{run.precision}", peer]
    ratio = run.forward_ratio(name, run.first(*forms))
    return None if ratio is None else 1 / ratio


GPU_ROWS = (
    Row("forward", (600, 280), lambda run, name: run.rate(name, FORWARD), "images/s", at_least=True),
    Row(
        "end to end from decoded image",
        (400, None),
        lambda run, name: run.rate(name, FROM_IMAGE),
        "images/s",
        at_least=True,
    ),
    Row("times as fast as EoMT-S 640x640", (1.5, None), lambda run, name: speedup(run, name, "eomt-s"), at_least=True),
    Row(
        "times as fast as Mask2Former R50", (8, 8), lambda run, name: speedup(run, name, "mask2former"), at_least=True
    ),
)


def own_variant(run: Measurements) -> str:
    """The float32 form of ours that `ROWS` are about: fused, or plain where that was not measured."""
    return run.first("fused", "plain")


def fastest_variant(run: Measurements) -> str:
    """The form of ours that `GPU_ROWS` are about."""
    forms = [f"fused+{run.precision}+compiled", "fused+fp16+compiled", "fused+bf16+compiled", f"fused+{run.precision}"]
    return run.first(*forms, "fused", "plain")


def fill(rows: tuple[Row, ...], size: str, run: Measurements, variant: str) -> list[Line]:
    """The rows of one size."""
    lines = []
    for row in rows:
        target = dict(zip(SIZES, row.targets, strict=True)).get(size)
        ours, literal = row.measure(run, variant), row.measure(run, "literal")
        reached = None
        if ours is not None and target is not None:
            reached = ours >= target if row.at_least else ours <= target
        lines.append(Line(row.title, row.unit, variant, ours, literal, target, row.at_least, reached))
    return lines


def summarise(runs: Mapping[str, Measurements], on_gpu: bool) -> dict[str, list[dict]]:
    """By size the lines of `ROWS`, and on a GPU those of `GPU_ROWS`."""
    summary = {}
    for size, run in runs.items():
        lines = fill(ROWS, size, run, own_variant(run))
        if on_gpu:
            lines += fill(GPU_ROWS, size, run, fastest_variant(run))
        summary[size] = [asdict(line) for line in lines]
    return summary
