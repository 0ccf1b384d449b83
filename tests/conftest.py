"""Fixtures shared by all tests."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Folder with the reference outputs of the official code, the sample photos and the facade data."""
    path = Path(__file__).resolve().parents[1] / ".." / "shared"
    if not path.is_dir():
        pytest.skip("the shared folder with reference data is not there")
    return path
