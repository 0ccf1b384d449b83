"""Table 6 and Figure 5 (right): operations and latency of the attentions."""

from collections.abc import Sequence

import torch
from torch import nn

from ..benchmark.timing import median_ratio, summarise, time_interleaved
from ..models.attention_block import build_attention
from ..models.configuration_yoso import YosoConfig
from .formulas import ATTENTION_FORMULAS, LAYER_NORM, mhca_operations, sdca_operations
from .operations import count_operations
from .published import ATTENTION_OPERATIONS
from .table import Table

NUM_QUERIES, HIDDEN_DIM, KERNEL_SIZE = 100, 256, 3
REPEATS = 20
"""Runs in a row a measurement; one is too short for the clock."""

FIGURE_QUERIES = (50, 100, 150, 200, 300, 500)
FIGURE_DIMS = (64, 128, 256, 512, 1024)


def attention_module(name: str, num_queries: int, hidden_dim: int, kernel_size: int) -> nn.Module:
    """One attention with random weights, in evaluation mode."""
    config = YosoConfig(
        attention_type=name, num_queries=num_queries, hidden_dim=hidden_dim, dynamic_kernel_size=kernel_size
    )
    config._attn_implementation = "sdpa"
    return build_attention(config).eval()


@torch.no_grad()
def attention_table(rounds: int) -> Table:
    """Measures all attentions in the paper's setting; `rounds` measurements of each latency."""
    queries, values = torch.randn(2, 1, NUM_QUERIES, HIDDEN_DIM).unbind()
    size = (NUM_QUERIES, HIDDEN_DIM, KERNEL_SIZE)
    modules = {name: attention_module(name, *size) for name in ATTENTION_FORMULAS}
    tasks = {name: lambda module=module: module(queries, values) for name, module in modules.items()}
    times = time_interleaved(tasks, torch.device("cpu"), rounds, repeats=REPEATS, description="attention")
    rows = [
        {
            "attention": name.upper(),
            "paper, M": ATTENTION_OPERATIONS[name] / 1e6,
            "formula, M": ATTENTION_FORMULAS[name](*size) / 1e6,
            "counted, M": count_operations(module, queries, values) / 1e6,
            "parameters": sum(parameter.numel() for parameter in module.parameters()),
            "latency, ms": summarise(times[name])["median_ms"],
            "times SDCA's operations": ATTENTION_FORMULAS[name](*size) / sdca_operations(*size),
            "times SDCA's latency": median_ratio(times[name], times["sdca"]),
        }
        for name, module in modules.items()
    ]
    notes = [
        f"n = {NUM_QUERIES} queries, d = {HIDDEN_DIM}, t = {KERNEL_SIZE}, batch 1; MHCA with 8 heads by torch's SDPA.",
        f"One operation is one multiply-add; the LayerNorm at the end of each counts {LAYER_NORM} an entry "
        f"({LAYER_NORM * NUM_QUERIES * HIDDEN_DIM / 1e6:.3f} M), as the counter of the released notebooks has it. "
        "Softmax, ReLU and biases count nothing. So counted, the paper's numbers come out to the last digit.",
        "The paper's latencies are not repeated here for want of a source that could be checked.",
    ]
    return Table("table_6_attention", "Table 6: attention", rows, notes, pictures=["table_6_attention.png"])


def reduction_table(num_queries: Sequence[int] = FIGURE_QUERIES, hidden_dims: Sequence[int] = FIGURE_DIMS) -> Table:
    """Operations of MHCA by those of SDCA over n and d."""
    rows = [
        {
            "n": n,
            **{f"d={d}": mhca_operations(n, d, KERNEL_SIZE) / sdca_operations(n, d, KERNEL_SIZE) for d in hidden_dims},
        }
        for n in num_queries
    ]
    notes = [
        f"Operations of MHCA by operations of SDCA, by the formulas of Table 6, t = {KERNEL_SIZE}. For many queries the "
        "ratio falls to 1 + 2 d / n: the products among queries, which both have, take over.",
    ]
    return Table(
        "figure_5_reduction", "Figure 5 (right): reduction ratio", rows, notes, pictures=["figure_5_reduction.png"]
    )
