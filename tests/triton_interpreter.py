"""Triton kernels on a CPU: its interpreter, which must be chosen before Triton is imported."""

import os
import subprocess
import sys

import pytest


def run_in_interpreter(code: str) -> None:
    """Runs Python code, which may import the test files, and fails with its traceback if it fails."""
    pytest.importorskip("triton")
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
