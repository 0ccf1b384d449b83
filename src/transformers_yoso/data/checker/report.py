"""The checker's result as text, as JSON and as a sheet of pictures."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from PIL import Image

from ...picture_sheet import Tile, save_sheet
from ..drawing import draw_record
from ..readers import PanopticDataset
from .findings import Finding, Kind, SplitCheck

SHOWN_PER_KIND = 10
SHEET_COLUMNS = 4
MAX_TILES = 16
MIN_EXAMPLES = 4


def summarize(check: SplitCheck) -> dict[str, Any]:
    """Numbers of one split, JSON-serialisable; shares are in [0, 1] and averaged over the usable photos."""
    photos = check.photos
    segments: Counter[int] = sum((photo.segments for photo in photos), Counter())
    pixels: Counter[int] = sum((photo.pixels for photo in photos), Counter())
    with_class = Counter(label for photo in photos for label in photo.pixels)
    counts = [photo.segments.total() for photo in photos]
    return {
        "split": check.split,
        "source": check.source,
        "num_photos": check.num_photos,
        "num_usable_photos": len(photos),
        "sizes": {f"{height}x{width}": n for (height, width), n in Counter(p.size for p in photos).most_common(5)},
        "segments_per_photo": {
            "median": median(counts) if counts else 0,
            "largest": max(counts, default=0),
        },
        "void_share": sum(photo.void_share for photo in photos) / max(len(photos), 1),
        "crowd_share": sum(photo.crowd_share for photo in photos) / max(len(photos), 1),
        "num_crowds": sum(photo.num_crowds for photo in photos),
        "classes": {
            name: {
                "is_thing": label not in check.stuff_label_ids,
                "photos": with_class[label],
                "segments": segments[label],
                "pixel_share": pixels[label] / max(pixels.total(), 1),
            }
            for label, name in check.id2label.items()
        },
    }


def to_json(checks: Sequence[SplitCheck]) -> dict[str, Any]:
    """Everything that was found, without abridgement."""
    findings = [finding for check in checks for finding in check.findings]
    return {
        "num_errors": sum(finding.kind.is_error for finding in findings),
        "num_warnings": sum(not finding.kind.is_error for finding in findings),
        "splits": [summarize(check) for check in checks],
        "findings": [
            {
                "severity": "error" if finding.kind.is_error else "warning",
                "kind": finding.kind.name,
                "split": finding.split,
                "index": finding.index,
                "message": finding.message,
            }
            for finding in findings
        ],
    }


def format_report(checks: Sequence[SplitCheck]) -> str:
    """A text for people: numbers and class balance of each split, then the findings by kind, errors first."""
    lines = [line for check in checks for line in (*_format_split(summarize(check)), "")]
    by_kind: dict[Kind, list[Finding]] = defaultdict(list)
    for check in checks:
        for finding in check.findings:
            by_kind[finding.kind].append(finding)
    for kind, findings in sorted(by_kind.items(), key=lambda item: not item[0].is_error):
        lines.append(f"{'ERROR' if kind.is_error else 'warning'}: {kind.name} ({len(findings)})")
        lines.extend(f"    {finding.split}: {finding.message}" for finding in findings[:SHOWN_PER_KIND])
        if len(findings) > SHOWN_PER_KIND:
            lines.append(f"    ... and {len(findings) - SHOWN_PER_KIND} more (all are in --output_json)")
    errors = sum(len(findings) for kind, findings in by_kind.items() if kind.is_error)
    warnings = sum(len(findings) for kind, findings in by_kind.items() if not kind.is_error)
    return "\n".join([*lines, f"{errors} errors, {warnings} warnings"])


def _format_split(summary: Mapping[str, Any]) -> list[str]:
    sizes = ", ".join(f"{size} ({count})" for size, count in summary["sizes"].items()) or "none"
    segments = summary["segments_per_photo"]
    lines = [
        f"{summary['split']}: {summary['num_photos']} photos, {summary['num_usable_photos']} usable "
        f"({summary['source']})",
        f"  sizes, height x width: {sizes}",
        f"  segments per photo: median {segments['median']:g}, largest {segments['largest']}",
        f"  void {100 * summary['void_share']:.1f} % of the pixels, crowd {100 * summary['crowd_share']:.1f} % "
        f"in {summary['num_crowds']} regions",
        f"  {'class':28s}{'':7s}{'photos':>8s}{'segments':>10s}{'pixels %':>10s}",
    ]
    for name, numbers in summary["classes"].items():
        if not numbers["photos"]:
            continue  # listed among the findings
        kind = "thing" if numbers["is_thing"] else "stuff"
        lines.append(
            f"  {name[:27]:28s}{kind:7s}{numbers['photos']:8d}{numbers['segments']:10d}"
            f"{100 * numbers['pixel_share']:10.2f}"
        )
    return lines


def save_picture_sheet(checks: Sequence[SplitCheck], open_split: Callable[[str], PanopticDataset], path: Path) -> None:
    """
    Saves a sheet of photos with their annotation drawn over: those with faults first, then examples without.

    Args:
        checks: the results.
        open_split: as for `check_dataset`.
        path: picture file.
    """
    faulty: dict[tuple[str, int], Finding] = {}
    findings = [finding for check in checks for finding in check.findings if finding.index is not None]
    for finding in sorted(findings, key=lambda finding: not finding.kind.is_error):
        faulty.setdefault((finding.split, finding.index), finding)
    places = {place: finding.kind.name for place, finding in list(faulty.items())[: MAX_TILES - MIN_EXAMPLES]}
    good = [
        (check.split, photo.index)
        for check in checks
        for photo in check.photos
        if (check.split, photo.index) not in faulty
    ]
    wanted = max(MIN_EXAMPLES, MAX_TILES // 2 - len(places))
    places.update(dict.fromkeys(good[:: max(1, len(good) // wanted)][:wanted], "nothing found"))
    datasets = {split: open_split(split) for split in {split for split, _ in places}}
    tiles = [_tile(datasets[split], split, index, text) for (split, index), text in places.items()]
    rows = [tiles[start : start + SHEET_COLUMNS] for start in range(0, len(tiles), SHEET_COLUMNS)]
    if rows:
        save_sheet(rows, path, "Dataset check: photos with findings first, then examples")


def _tile(dataset: PanopticDataset, split: str, index: int, text: str) -> Tile:
    try:
        record = dataset.read_record(index)
    except (ValueError, OSError):
        return Tile(Image.new("RGB", (256, 256), (96, 96, 96)), f"{split} {index}: {text}")
    return Tile(draw_record(record, dataset.categories), f"{split} {Path(record.file_name).name}: {text}")
