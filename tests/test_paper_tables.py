"""The paper's tables: counted operations are the formulas', and both are the paper's numbers."""

import csv
from pathlib import Path

import pytest
import torch

from transformers_yoso import YosoForUniversalSegmentation
from transformers_yoso.benchmark.random_model import coco_config
from transformers_yoso.models.feature_aggregation import build_aggregation
from transformers_yoso.paper import aggregation_table, command, model_tables
from transformers_yoso.paper.attention_table import attention_module, reduction_table
from transformers_yoso.paper.formulas import AGGREGATION_FORMULAS, ATTENTION_FORMULAS
from transformers_yoso.paper.model_parts import count_parameters, count_parts
from transformers_yoso.paper.operations import count_multiply_adds, count_operations
from transformers_yoso.paper.published import AGGREGATION_OPERATIONS, ATTENTION_OPERATIONS, RESULTS


@pytest.mark.parametrize("name", ATTENTION_FORMULAS)
@pytest.mark.parametrize("size", [(100, 256, 3), (30, 64, 5), (7, 32, 1)])
def test_counted_attention_equals_the_formula(name: str, size: tuple[int, int, int]) -> None:
    queries, values = torch.randn(2, 1, *size[:2]).unbind()
    module = attention_module(name, *size)
    for mode in (torch.no_grad(), torch.inference_mode()):
        with mode:
            assert count_operations(module, queries, values) == ATTENTION_FORMULAS[name](*size)


@pytest.mark.parametrize("name", AGGREGATION_FORMULAS)
@pytest.mark.parametrize(("channels", "side"), [((128, 256, 512, 1024), 256), ((24, 40, 48, 56), 64)])
def test_counted_aggregation_equals_the_formula(name: str, channels: tuple[int, ...], side: int) -> None:
    with torch.device("meta"):
        module = build_aggregation(name, list(channels), 128)
        levels = [torch.empty(1, width, side >> level, side >> level) for level, width in enumerate(channels)]
    assert count_operations(module, levels) == AGGREGATION_FORMULAS[name](channels, 128, side, side)


def test_formulas_round_to_the_papers_numbers() -> None:
    for name, published in ATTENTION_OPERATIONS.items():
        assert round(ATTENTION_FORMULAS[name](100, 256, 3) / 1e6, 1) == published / 1e6
    for name, published in AGGREGATION_OPERATIONS.items():
        operations = AGGREGATION_FORMULAS[name]((128, 256, 512, 1024), 128, 256, 256)
        assert round(operations / 1e9, 1) == published / 1e9


def test_parts_of_the_released_model() -> None:
    """Operations (2 a multiply-add) in G and parameters in M, as found apart from this code."""
    model = YosoForUniversalSegmentation(coco_config()).eval().requires_grad_(False)
    for size, expected in (((512, 800), (66.7, 40.3, 7.2)), ((800, 1344), (175.2, 105.8, 17.9))):
        counted = [2 * number / 1e9 for number in count_parts(model, size).values()]
        assert counted == pytest.approx(expected, abs=1.0)
    assert [number / 1e6 for number in count_parameters(model).values()] == pytest.approx((23.5, 15.4, 3.2), abs=0.06)


def test_multiply_adds_of_a_layer() -> None:
    layer = torch.nn.Conv2d(8, 12, kernel_size=3, padding=1, groups=4)
    assert count_multiply_adds(layer, torch.randn(2, 8, 5, 7)) == 2 * 5 * 7 * 12 * 2 * 9


def test_reduction_ratio() -> None:
    table = reduction_table([100], [256, 512])
    assert table.rows[0]["d=256"] == pytest.approx(31.4624 / 5.4016)
    assert table.rows[0]["d=512"] > table.rows[0]["d=256"]


def test_canvases_of_the_six_test_sizes() -> None:
    assert [model_tables.sizes_of(result)[2] for result in RESULTS] == [
        *((800, 1088), (512, 704), (1024, 2048), (512, 1024), (640, 864), (1536, 2048))
    ]


def test_files_of_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one measurement and a small image."""
    monkeypatch.setattr(command, "restart_with_steady_malloc", lambda: None)
    monkeypatch.setattr(command, "aggregation_table", lambda rounds: aggregation_table.aggregation_table(rounds, 256))
    monkeypatch.setattr(torch, "set_num_threads", lambda number: None)
    command.main(["--quick", "--sections", "attention", "aggregation", "--output_dir", str(tmp_path)])
    report = (tmp_path / "paper_tables.md").read_text()
    for text in (
        "## Table 5",
        "## Table 6",
        "## Figure 5",
        "| MHCA | 31.5 | 31.5 | 31.5 |",
        "| PDCA | 5.2 | 5.25 | 5.25 |",
        "1 measurement,",
    ):
        assert text in report
    with (tmp_path / "table_6_attention.csv").open() as file:
        rows = {row["attention"]: row for row in csv.DictReader(file)}
    assert float(rows["SDCA"]["counted, M"]) == 5.4016
    assert all(float(row["latency, ms"]) > 0 for row in rows.values())
    assert {file.name for file in tmp_path.glob("*.png")} == {"table_6_attention.png", "figure_5_reduction.png"}
