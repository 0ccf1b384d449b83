"""Sheets of captioned pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

TILE_INCHES = 3.2
DOTS_PER_INCH = 120


class Tile(NamedTuple):
    """A picture and the text above it."""

    picture: Image.Image
    caption: str


def save_sheet(rows: Sequence[Sequence[Tile]], path: Path, title: str) -> None:
    """Draws rows of tiles under a title and saves them as a picture file; rows may differ in length."""
    from matplotlib.figure import Figure

    columns = max(len(row) for row in rows)
    figure = Figure(
        figsize=(columns * TILE_INCHES, len(rows) * TILE_INCHES + 0.5), dpi=DOTS_PER_INCH, layout="constrained"
    )
    figure.suptitle(title, fontsize=10)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for row, row_axes in zip(rows, axes, strict=True):
        for tile, axis in zip(row, row_axes, strict=False):
            axis.imshow(tile.picture)
            axis.set_title(tile.caption, fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
