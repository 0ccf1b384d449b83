"""Table 5: operations and latency of interpolation-first and convolution-first aggregation."""

import torch

from ..benchmark.timing import median_ratio, summarise, time_interleaved
from ..models.feature_aggregation import build_aggregation, convolution_first
from .formulas import AGGREGATION_FORMULAS
from .operations import count_multiply_adds, count_operations
from .published import AGGREGATION_OPERATIONS, AGGREGATION_SPEEDUP
from .table import Table

LEVEL_CHANNELS = (128, 256, 512, 1024)
AGGREGATION_DIM = 128
IMAGE_SIZE = 1024
"""Side in pixels of the image whose levels the authors measure on."""


@torch.no_grad()
def aggregation_table(rounds: int, image_size: int = IMAGE_SIZE) -> Table:
    """Measures both forms with the same weights, in the paper's setting.

    Args:
        rounds: measurements of each latency.
        image_size: side in pixels of a square image.
    """
    side = image_size // 4
    levels = [torch.randn(1, channels, side >> level, side >> level) for level, channels in enumerate(LEVEL_CHANNELS)]
    ifa = build_aggregation("ifa", list(LEVEL_CHANNELS), AGGREGATION_DIM).eval()
    modules = {"ifa": ifa, "cfa": convolution_first(ifa)}
    tasks = {name: lambda module=module: module(levels) for name, module in modules.items()}
    times = time_interleaved(tasks, torch.device("cpu"), rounds, description="aggregation")
    rows = [
        {
            "aggregation": name.upper(),
            "paper, G": AGGREGATION_OPERATIONS[name] / 1e9,
            "formula, G": AGGREGATION_FORMULAS[name](LEVEL_CHANNELS, AGGREGATION_DIM, side, side) / 1e9,
            "counted, G": count_operations(module, levels) / 1e9,
            "convolutions alone, G": count_multiply_adds(module, levels) / 1e9,
            "latency, ms": summarise(times[name])["median_ms"],
            "times CFA's latency": median_ratio(times[name], times["cfa"]),
            "paper, times CFA's latency": {"ifa": AGGREGATION_SPEEDUP, "cfa": 1.0}[name],
        }
        for name, module in modules.items()
    ]
    notes = [
        f"Levels of {', '.join(map(str, LEVEL_CHANNELS))} channels at 1/4 to 1/32 of {image_size} x {image_size} "
        f"pixels, {AGGREGATION_DIM} channels out, batch 1, equal weights.",
        "One operation is one multiply-add; a bilinearly upsampled entry counts 4 and a sum of maps 1 an entry, as the "
        "counter of the released notebooks has it. So counted, the paper's numbers come out.",
        "The paper's IFA has no bias; ours has the learned bias of the released CFA, which adds 1 an entry, "
        f"{AGGREGATION_DIM * side * side / 1e9:.3f} G. The released CFA counts a sum over four levels and no bias, "
        "ours three sums and the bias: the same number.",
        f"The paper's ratio {AGGREGATION_SPEEDUP} is of other hardware, a GPU.",
    ]
    return Table("table_5_aggregation", "Table 5: aggregation", rows, notes)
