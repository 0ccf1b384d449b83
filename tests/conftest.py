"""Fixtures shared by all tests."""

import os
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
