"""The notebooks: what lies in them, and that they run."""

import importlib.util
import re
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="notebooks need nbclient: pip install nbclient ipykernel")

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NAMES = [path.stem for path in NOTEBOOKS]
MACHINE_PATH = re.compile(r"/(home|root|work|tmp|opt|usr|Users)/\w|site-packages")


def code_cells(notebook: "nbformat.NotebookNode") -> list["nbformat.NotebookNode"]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs_of(notebook: "nbformat.NotebookNode") -> list["nbformat.NotebookNode"]:
    return [output for cell in code_cells(notebook) for output in cell.outputs]


def test_there_are_four() -> None:
    assert NAMES == ["01_first_segmentation", "02_fine_tune", "03_how_yoso_works", "04_export_and_speed"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_kept_outputs_are_whole_small_and_clean(path: Path) -> None:
    """Of one run from top to bottom; small pictures; no warnings, no errors, no paths of a machine."""
    assert path.stat().st_size < 500_000
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = outputs_of(notebook)
    assert sum("image/jpeg" in output.get("data", {}) for output in outputs) >= 2
    assert {output.output_type for output in outputs} <= {"stream", "display_data"}
    assert {output.name for output in outputs if output.output_type == "stream"} == {"stdout"}
    texts = [output.get("text") or output.data["text/plain"] for output in outputs]
    assert not [text for text in texts if MACHINE_PATH.search(text)]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_notebook_runs_from_top_to_bottom(path: Path) -> None:
    for package in ("nbclient", "ipykernel"):
        pytest.importorskip(package, reason=f"running notebooks needs {package}: pip install {package}")
    spec = importlib.util.spec_from_file_location("run_notebooks", ROOT / "scripts" / "run_notebooks.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    notebook = script.run_notebook(path)
    kept = nbformat.read(path, as_version=4)
    assert [len(cell.outputs) > 0 for cell in code_cells(notebook)] == [
        len(cell.outputs) > 0 for cell in code_cells(kept)
    ]
    noise = [output.text for output in outputs_of(notebook) if output.get("name") == "stderr"]
    assert not noise, "".join(noise)
