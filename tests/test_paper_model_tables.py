"""Tables and pictures of the four released models and of the decoder's sweeps."""

from pathlib import Path

import pytest
from PIL import Image

from transformers_yoso.paper import decoder_tables, figures, model_tables
from transformers_yoso.paper.model_parts import PARTS, time_parts
from transformers_yoso.paper.published import RESULTS
from transformers_yoso.paper.table import Table

STAGES = ("backbone", "neck", "decoder")


def is_picture(file: Path) -> bool:
    """Whether it opens and shows something."""
    with Image.open(file) as image:
        dark, bright = image.convert("L").getextrema()
        return image.width > 300 and bright - dark > 100


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> Table:
    """The table of times with 2, 4, 6 and 8 ms for the parts of every model."""
    made_up = {part: [2.0 * k, 2.0 * k, 99.0] for k, part in enumerate(PARTS, start=1)}
    monkeypatch.setattr(model_tables, "time_parts", lambda *arguments: made_up)
    return model_tables.time_table(rounds=3)


def test_times_add_up_beside_the_papers_numbers(times: Table) -> None:
    assert len(times.rows) == len(RESULTS) == 6
    for row, result in zip(times.rows, RESULTS, strict=True):
        assert [row[f"{part}, ms"] for part in PARTS] == [2, 4, 6, 8]
        assert row["all, ms"] == 20 and row["FPS"] == 50
        assert (row["paper, FPS"], row["paper, PQ"]) == (result.frames_per_second, result.panoptic_quality)


def test_costs_add_up() -> None:
    table = model_tables.cost_table(RESULTS[:2])
    assert [row["canvas"] for row in table.rows] == ["800x1088", "512x704"]
    for row in table.rows:
        for unit in ("M parameters", "G"):
            assert row[f"all, {unit}"] == pytest.approx(sum(row[f"{part}, {unit}"] for part in STAGES))
    coco, small = table.rows
    assert coco["all, M parameters"] == small["all, M parameters"] == pytest.approx(42.0, abs=0.1)
    pixels = 800 * 1088 / (512 * 704)
    assert coco["backbone, G"] / small["backbone, G"] == pytest.approx(pixels, rel=1e-6)


def test_every_part_of_a_model_is_timed() -> None:
    measured = time_parts("coco", canvas=(64, 96), image_size=(64, 96), target_size=(50, 70), rounds=2)
    assert list(measured) == list(PARTS)
    assert all(len(milliseconds) == 2 and min(milliseconds) > 0 for milliseconds in measured.values())


def test_pictures_of_the_models(times: Table, tmp_path: Path) -> None:
    figures.plot_model_times(times, "made up", tmp_path / "times.png")
    figures.plot_quality_over_speed(times, "made up", tmp_path / "quality.png")
    assert is_picture(tmp_path / "times.png") and is_picture(tmp_path / "quality.png")


@pytest.mark.slow
def test_decoder_tables(tmp_path: Path) -> None:
    tables = decoder_tables.decoder_tables(rounds=1, canvas=(64, 96))
    assert [table.name for table in tables] == ["table_7", "table_8", "table_9", "table_10"]
    for table in tables:
        assert sum("released" in row[next(iter(row))] for row in table.rows) == 1
        operations = [row["decoder, G"] for row in table.rows]
        assert operations == sorted(operations) and operations[0] < operations[-1]
        for row in table.rows:
            assert 0 < row["of the decoder, M"] < row["parameters, M"]
            assert 0 < row["FPS"] < 1000 / row["decoder, ms"]
    figures.plot_sweeps(tables, "made up", tmp_path / "sweeps.png")
    assert is_picture(tmp_path / "sweeps.png")
