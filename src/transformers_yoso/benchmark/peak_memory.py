"""Peak memory of one task, above what is in memory before it."""

import ctypes
import gc
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from .environment import environment_with_default_malloc

BYTES_PER_MB = 1e6
PROC = Path("/proc/self")


class MemoryNotMeasuredError(RuntimeError):
    """The peak cannot be told here; the message says why."""


def extra_peak_mb(task: Callable[[], Any], device: torch.device) -> float:
    """Megabytes (1e6 bytes) that `task` needs at its peak above what is allocated before it.

    On the CPU: peak resident set during the task minus resident set before. On a GPU: of torch's allocator there.

    Raises:
        MemoryNotMeasuredError: on the CPU elsewhere than on Linux, whose /proc can reset the peak.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        task()
        torch.cuda.synchronize(device)
        return (torch.cuda.max_memory_allocated(device) - before) / BYTES_PER_MB
    return_free_memory()
    reset_resident_peak()
    before = resident_mb("VmRSS")
    task()
    return resident_mb("VmHWM") - before


def return_free_memory() -> None:
    """Gives freed memory back to the system, so that the task cannot use it unseen."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def reset_resident_peak() -> None:
    """Sets the peak of the resident set to its present size."""
    try:
        (PROC / "clear_refs").write_text("5")
    except OSError as error:
        raise MemoryNotMeasuredError(f"peak memory is measured through /proc/self/clear_refs: {error}") from error


def resident_mb(field: str) -> float:
    """`VmRSS` (now) or `VmHWM` (peak) in megabytes."""
    for line in (PROC / "status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024 / BYTES_PER_MB
    raise MemoryNotMeasuredError(f"/proc/self/status has no {field}.")


def run_in_fresh_process(
    module: str, arguments: Sequence[str], malloc: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Runs `python -m module arguments`; its last line of output is JSON.

    Args:
        module: to run.
        arguments: of its command line.
        malloc: settings of glibc's allocator; its defaults if not given.

    Raises:
        MemoryNotMeasuredError: with the last line of its errors, if it fails.
    """
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env={**environment_with_default_malloc(), **(malloc or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last_line = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise MemoryNotMeasuredError(last_line[0])
    return json.loads(done.stdout.splitlines()[-1])
