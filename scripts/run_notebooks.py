"""Runs notebooks from top to bottom and writes their new outputs into them.

python scripts/run_notebooks.py notebooks/*.ipynb
"""

import argparse
import os
from pathlib import Path

import nbformat
from nbclient import NotebookClient

TIMEOUT_SECONDS = 1800
# Nothing from the Hub, and no warning that ipywidgets is not there.
KERNEL_ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore:IProgress not found"}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="+", type=Path)
    return parser.parse_args()


def run_notebook(path: Path) -> nbformat.NotebookNode:
    """The notebook with the outputs of a run in its own folder, free of times and versions of this machine.

    Raises:
        CellExecutionError: a cell raised.
    """
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=TIMEOUT_SECONDS,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": path.parent}},
    )
    client.execute(env=os.environ | KERNEL_ENVIRONMENT)
    notebook.metadata["language_info"] = {"name": "python"}
    return notebook


def main() -> None:
    for path in parse_arguments().notebooks:
        nbformat.write(run_notebook(path), path)
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
