"""A table as Markdown and CSV."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..model_card.markdown_tables import markdown_table

PAPER = "paper"
"""Columns whose names start so hold published numbers."""


@dataclass(frozen=True)
class Table:
    """Rows of the same columns.

    Attributes:
        name: of its CSV file.
        title: heading.
        rows: values by column; all rows have the same columns, `None` where there is no number.
        notes: sentences below the table: settings, sources, assumptions.
        pictures: file names of the pictures that belong to it.
    """

    name: str
    title: str
    rows: Sequence[Mapping[str, Any]]
    notes: Sequence[str] = ()
    pictures: Sequence[str] = ()

    def markdown(self) -> str:
        """Heading, table, picture and notes."""
        columns = list(self.rows[0])
        cells = [[format_value(row[column], column.startswith(PAPER)) for column in columns] for row in self.rows]
        table = markdown_table(columns, cells)
        pictures = [f"![{Path(picture).stem}]({picture})" for picture in self.pictures]
        notes = ["\n".join(f"- {note}" for note in self.notes)] if self.notes else []
        return "\n\n".join([f"## {self.title}", table, *pictures, *notes])

    def write_csv(self, folder: Path) -> None:
        """`NAME.csv`, with all digits."""
        with (folder / f"{self.name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(self.rows[0]))
            writer.writeheader()
            writer.writerows(self.rows)


def format_value(value: Any, as_given: bool = False) -> str:
    """Numbers with as many digits as a reader needs, or as many as they are given with; nothing for `None`."""
    if value is None:
        return ""
    if isinstance(value, float):
        digits = next((count for count, least in enumerate((1000, 10, 1)) if abs(value) >= least), 3)
        return f"{value:g}" if as_given else f"{value:.{digits}f}"
    return str(value)
