"""Operations counted while modules run, from the shapes that torch's operators see."""

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from .formulas import BILINEAR, LAYER_NORM

aten = torch.ops.aten


def _attention_on_cpu(query: Any, key: Any, value: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    return sdpa_flop_count(query, key, value)


def _per_entry(operations: int) -> Callable[..., int]:
    """Formula of an operator that takes so many operations for each entry of its (first) result."""

    def formula(*args: Any, out_shape: Any = None, **kwargs: Any) -> int:
        shape = out_shape[0] if isinstance(out_shape[0], torch.Size | tuple | list) else out_shape
        return operations * prod(shape)

    return formula


PER_ENTRY = {
    aten.native_layer_norm: _per_entry(LAYER_NORM),
    aten.upsample_bilinear2d: _per_entry(BILINEAR),
    # Taps of the depthwise convolution, which is no operator of its own in our modules.
    aten.mul: _per_entry(1),
    aten.addcmul: _per_entry(1),
    aten.add: _per_entry(1),
}
"""What the authors' counter counts besides multiply-adds, and sums."""


def count_multiply_adds(function: Callable[..., Any], *inputs: Any) -> int:
    """Multiply-adds of the convolutions and matrix products of one call; sampling and pooling by index count nothing."""
    return _count(function, inputs, {})


def count_operations(function: Callable[..., Any], *inputs: Any) -> int:
    """Operations of one call in the authors' way; see `formulas`."""
    return _count(function, inputs, PER_ENTRY)


def _count(function: Callable[..., Any], inputs: tuple[Any, ...], per_entry: dict[Any, Callable[..., int]]) -> int:
    attention = {aten._scaled_dot_product_flash_attention_for_cpu: _attention_on_cpu}
    mode = FlopCounterMode(display=False, custom_mapping={**attention, **per_entry})
    # In inference mode torch shows the parts of operators instead of the operators.
    with torch.inference_mode(False), torch.no_grad(), mode as counter:
        function(*inputs)
    counts = counter.get_flop_counts()["Global"]
    return sum(count if operator in per_entry else count // 2 for operator, count in counts.items())
