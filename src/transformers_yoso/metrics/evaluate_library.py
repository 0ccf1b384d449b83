"""Hugging Face's `evaluate` library, whose name `scripts/evaluate.py` takes wherever a script of that folder runs."""

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType


def import_evaluate() -> ModuleType:
    """The library, past any `evaluate.py` on the path: Python puts the folder of the script it runs first."""
    path = list(sys.path)
    sys.path[:] = [folder for folder in path if not (Path(folder) / "evaluate.py").is_file()]
    try:
        return import_module("evaluate")
    finally:
        sys.path[:] = path
