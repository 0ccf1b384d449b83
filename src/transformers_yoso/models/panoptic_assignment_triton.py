"""The arg-max of p * mask over the kept queries as one Triton kernel: upsampling, sigmoid, comparison and areas.

Which queries are kept is read on the device, so that the host need not know and never waits. Per pixel the kernel reads
at most 16 cells of a kept mask, and writes one number; no mask of the target's size is ever in memory.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK_ROWS, BLOCK_COLUMNS = 4, 128
"""Pixels of the target that one program assigns."""


@triton.jit
def _assignment_kernel(
    masks,
    mask_stride,
    row_stride,
    column_stride,
    kept_queries,
    num_kept,
    scores,
    row_indices,
    row_weights,
    column_indices,
    column_weights,
    mask_threshold,
    height,
    width,
    codes,
    areas,
    row_taps: tl.constexpr,
    column_taps: tl.constexpr,
    block_rows: tl.constexpr,
    block_columns: tl.constexpr,
):
    """See `assign_pixels` for the tensors behind the pointers."""
    row = tl.program_id(0) * block_rows + tl.arange(0, block_rows)
    column = tl.program_id(1) * block_columns + tl.arange(0, block_columns)
    is_row, is_column = row < height, column < width
    in_map = is_row[:, None] & is_column[None, :]
    best = tl.full((block_rows, block_columns), -1.0, dtype=tl.float32)
    code = tl.zeros((block_rows, block_columns), dtype=tl.int32)
    count = tl.load(num_kept)
    for position in range(count):
        query = tl.load(kept_queries + position)
        mask = masks + query * mask_stride
        logit = tl.zeros((block_rows, block_columns), dtype=tl.float32)
        for row_tap in tl.static_range(row_taps):
            source_row = tl.load(row_indices + row * row_taps + row_tap, mask=is_row, other=0)
            row_weight = tl.load(row_weights + row * row_taps + row_tap, mask=is_row, other=0.0)
            line = tl.zeros((block_rows, block_columns), dtype=tl.float32)
            for column_tap in tl.static_range(column_taps):
                source_column = tl.load(column_indices + column * column_taps + column_tap, mask=is_column, other=0)
                column_weight = tl.load(column_weights + column * column_taps + column_tap, mask=is_column, other=0.0)
                address = mask + source_row[:, None] * row_stride + source_column[None, :] * column_stride
                line += column_weight[None, :] * tl.load(address).to(tl.float32)
            logit += row_weight[:, None] * line
        probability = 1.0 / (1.0 + tl.exp(-logit))
        inside = in_map & (probability >= mask_threshold)
        tl.atomic_add(areas + 3 * query, tl.sum(inside.to(tl.int32)))
        weighted = probability * tl.load(scores + query)
        code = tl.where(weighted > best, 2 * query.to(tl.int32) + inside.to(tl.int32), code)
        best = tl.maximum(best, weighted)
    for position in range(count):
        query = tl.load(kept_queries + position)
        won = in_map & (code // 2 == query)
        tl.atomic_add(areas + 3 * query + 1, tl.sum(won.to(tl.int32)))
        tl.atomic_add(areas + 3 * query + 2, tl.sum((won & (code % 2 == 1)).to(tl.int32)))
    tl.store(codes + row[:, None] * width + column[None, :], code, mask=in_map)


def assign_pixels(
    mask_logits: Tensor,
    kept_queries: Tensor,
    num_kept: Tensor,
    scores: Tensor,
    rows: tuple[Tensor, Tensor],
    columns: tuple[Tensor, Tensor],
    mask_threshold: float,
) -> tuple[Tensor, Tensor]:
    """
    Args:
        mask_logits (`Tensor` of shape `(N, h, w)`): Of one image, any floating dtype and strides.
        kept_queries (`Tensor` of shape `(N,)`): int64, the kept queries in query order, then the others.
        num_kept (`Tensor` of shape `()`): How many are kept.
        scores (`Tensor` of shape `(N,)`): float32 p of each query.
        rows, columns (`tuple[Tensor, Tensor]`): Grid cells and weights of each row and column of the target,
            `(height, taps)` and `(width, taps)`.
        mask_threshold (`float`): Least probability of a pixel inside a mask.

    Returns:
        int32 codes (height, width), 2q + 1 where query q wins inside its own mask, 2q where it wins outside of it, 0
        if nothing is kept; int32 areas (N, 3): pixels inside the mask, pixels won, pixels won inside the mask.
    """
    (height, row_taps), (width, column_taps) = rows[0].shape, columns[0].shape
    codes = scores.new_empty(height, width, dtype=torch.int32)
    areas = codes.new_zeros(len(scores), 3)
    grid = (triton.cdiv(height, BLOCK_ROWS), triton.cdiv(width, BLOCK_COLUMNS))
    _assignment_kernel[grid](
        mask_logits,
        *mask_logits.stride(),
        kept_queries,
        num_kept,
        scores,
        *rows,
        *columns,
        mask_threshold,
        height,
        width,
        codes,
        areas,
        row_taps=row_taps,
        column_taps=column_taps,
        block_rows=BLOCK_ROWS,
        block_columns=BLOCK_COLUMNS,
    )
    return codes, areas
