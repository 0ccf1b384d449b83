"""Where a benchmark runs: processor, threads, versions, and the settings of the memory allocator."""

import os
import platform
import sys
from typing import Any

import torch

from ..model_card.hardware import cpu_name

STEADY_MALLOC = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "20000000000",
    "MALLOC_TOP_PAD_": "67108864",
}
"""glibc keeps freed memory. By default it returns large tensors to the system, and page faults rule the timings."""

RETURNING_MALLOC = {"MALLOC_MMAP_THRESHOLD_": "65536"}
"""glibc returns every freed tensor at once, so that the peak is what is in use, without the gaps that it keeps."""

MEMORY_ALLOCATORS: dict[str, dict[str, str]] = {
    "freed blocks returned": RETURNING_MALLOC,
    "glibc's defaults": {},
}
"""Under which settings peak memory is measured: what is in use, and what a user sees who sets nothing."""


def restart_with_steady_malloc() -> None:
    """Starts the running program anew with `STEADY_MALLOC`, unless it has it: glibc reads it at the start only."""
    if any(os.environ.get(name) != value for name, value in STEADY_MALLOC.items()):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **STEADY_MALLOC})


def environment_with_default_malloc() -> dict[str, str]:
    """This process's environment variables without those of the allocator."""
    return {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}


def malloc_settings() -> str:
    """What `MALLOC_*` says, for reports."""
    settings = {name: value for name, value in sorted(os.environ.items()) if name.startswith("MALLOC_")}
    return " ".join(f"{name}={value}" for name, value in settings.items()) or "glibc's defaults"


def describe_environment(device: torch.device) -> dict[str, Any]:
    """Hardware, threads, allocator and versions, for the report."""
    import timm
    import torchvision
    import transformers

    described = {
        "processor": cpu_name(),
        "cores": os.cpu_count(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "device": device.type,
        "allocator": malloc_settings(),
        "load_average_at_start": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "transformers": transformers.__version__,
        "timm": timm.__version__,
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        described["gpu"] = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
        described["cuda"] = torch.version.cuda
    return described
