"""What a run or a measurement ran on, as numbers and names that go into JSON files."""

import os
import platform
from pathlib import Path
from typing import Any

import torch
import transformers


def describe_hardware(device: torch.device | None = None) -> dict[str, Any]:
    """
    Describes this machine, without its name or addresses.

    Args:
        device: what the model runs on; by default the GPU if there is one.

    Returns:
        `device` ("cpu", "cuda", ...), `cpu` (its model), `cpu_cores`, `cpu_threads` (torch's), `memory_gib`, the
        versions `python`, `torch` and `transformers`, and on CUDA `gpu`, `gpu_memory_gib` and `num_gpus`.
    """
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    described: dict[str, Any] = {
        "device": device.type,
        "cpu": cpu_name(),
        "cpu_cores": os.cpu_count(),
        "cpu_threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        pages, page_bytes = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
        described["memory_gib"] = round(pages * page_bytes / 2**30, 1)
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        described["gpu"] = properties.name
        described["gpu_memory_gib"] = round(properties.total_memory / 2**30, 1)
        described["num_gpus"] = torch.cuda.device_count()
    return described


def cpu_name() -> str:
    """Model of the processor, or its architecture where the system does not tell."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
