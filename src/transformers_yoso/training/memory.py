"""Memory that a process took."""

import sys

import psutil
import torch

GIBIBYTE = 2**30


def peak_memory(device: torch.device) -> float:
    """GiB: the most that was taken so far, of GPU memory by tensors, or on other devices by the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / GIBIBYTE
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset / GIBIBYTE
    import resource  # not there on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GIBIBYTE
