"""Fixtures shared by all tests."""

import os
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Folder with the reference outputs of the official code, the sample photos and the facade data."""
    path = Path(__file__).resolve().parents[1] / ".." / "shared"
    if not path.is_dir():
        missing = "the folder ../shared with reference outputs and photos is not beside the repository"
        pytest.fail(missing) if "CI" in os.environ else pytest.skip(missing)
    return path


@pytest.fixture(scope="session")
def photos(shared_dir):
    """The validation photos of the facade data."""
    from transformers_yoso.data import CocoPanopticDataset

    return CocoPanopticDataset.from_folder(shared_dir / "data" / "facade", "val")


@pytest.fixture(autouse=True)
def fresh_accelerate():
    """Accelerate keeps its settings in process-wide state; every test starts without."""
    yield
    if "accelerate" in sys.modules:
        from accelerate.state import AcceleratorState, GradientState, PartialState

        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
        PartialState._reset_state()
