"""Memory that a process holds."""

import psutil
import torch

GIBIBYTE = 2**30


def memory_in_use(device: torch.device) -> float:
    """GiB: the largest amount of GPU memory allocated so far, or on other devices the process's resident memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / GIBIBYTE
    return psutil.Process().memory_info().rss / GIBIBYTE
