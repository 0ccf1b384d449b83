"""Where a variant's forward spends its time: the operators or kernels with the largest share."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from .variants import Variant

RUNS = 3


@dataclass(frozen=True)
class KernelTime:
    """One operator (CPU) or kernel (GPU).

    Attributes:
        name: as the profiler has it.
        calls: a forward.
        milliseconds: a forward, without what it calls.
        share: of all, in [0, 1].
    """

    name: str
    calls: float
    milliseconds: float
    share: float


@torch.inference_mode()
def profile_forward(variant: Variant, inputs: Tensor, top: int = 20) -> list[KernelTime]:
    """The `top` operators or kernels of a warm forward by their own time, the slowest first."""
    on_gpu = variant.settings.device.type == "cuda"
    for _ in range(RUNS):
        variant.forward(inputs)
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]) as profiler:
        for _ in range(RUNS):
            variant.forward(inputs)
        if on_gpu:
            torch.cuda.synchronize()
    device_type = DeviceType.CUDA if on_gpu else DeviceType.CPU
    times = {
        event.key: (event.count, event.self_device_time_total if on_gpu else event.self_cpu_time_total)
        for event in profiler.key_averages()
        if event.device_type == device_type
    }
    total = sum(microseconds for _, microseconds in times.values())
    slowest = sorted(times.items(), key=lambda item: -item[1][1])[:top]
    return [
        KernelTime(name, count / RUNS, microseconds / 1000 / RUNS, microseconds / total)
        for name, (count, microseconds) in slowest
    ]
