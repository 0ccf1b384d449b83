"""Panoptic post-processing as an ONNX graph: logits in, id maps and a table of segments out.

The rules are those of `models.post_processing.panoptic_segmentation`. Only queries above the threshold are upsampled,
one at a time, so that memory does not grow with queries times target pixels. The two bilinear steps (to the canvas,
and from its crop to the target size) and the crop between them are linear and separable, so a mask at target size is
rows @ logits @ columns with one small matrix for each axis.
"""

import onnx
import onnx.inliner
from onnxscript import BOOL, DOUBLE, FLOAT, INT32, INT64, script
from onnxscript import opset19 as op

from ..models.canvas import MASK_STRIDE, SIZE_DIVISOR

SEGMENT_COLUMNS = ("id", "label_id", "was_fused", "area")
CELLS_PER_DIVISOR = SIZE_DIVISOR // MASK_STRIDE


@script()
def bilinear_weights(source_length: INT64, target_length: INT64, num_rows: INT64, num_columns: INT64) -> FLOAT:
    """Weights (num_rows, num_columns) of the first target pixels over source pixels; those past the source weigh 0."""
    scale = op.Cast(source_length, to=FLOAT.dtype) / op.Cast(target_length, to=FLOAT.dtype)
    targets = op.Cast(op.Range(0, num_rows, 1), to=FLOAT.dtype)
    sources = op.Cast(op.Range(0, num_columns, 1), to=FLOAT.dtype)
    positions = op.Clip((targets + 0.5) * scale - 0.5, 0.0, op.Cast(source_length - 1, to=FLOAT.dtype))
    distances = op.Abs(op.Unsqueeze(positions, [1]) - op.Unsqueeze(sources, [0]))
    return op.Relu(1.0 - distances)


@script()
def resize_weights(grid_length: INT64, image_length: INT64, target_length: INT64) -> FLOAT:
    """Weights (target, grid) of one axis: grid to the image's own canvas, crop to the image, resize to the target."""
    own_length = (image_length + (SIZE_DIVISOR - 1)) / SIZE_DIVISOR * CELLS_PER_DIVISOR
    to_image = bilinear_weights(own_length, own_length * MASK_STRIDE, image_length, grid_length)
    return op.MatMul(bilinear_weights(image_length, target_length, target_length, image_length), to_image)


@script()
def assign_pixels(
    mask_logits: FLOAT, scores: FLOAT, rows: FLOAT, columns: FLOAT, target_size: INT64, mask_threshold: FLOAT
):
    """Arg-max of p * mask over K queries, taken mask by mask.

    Returns int32 winners (height, width), k + 1 where query k wins; whether the winner's mask is inside there; int64
    areas (K,), the pixels inside of each mask.
    """
    best = op.Expand(-1.0, target_size)
    winners = op.Expand(op.Cast(0, to=INT32.dtype), target_size)
    areas = op.Cast(op.Range(0, 0, 1), to=INT64.dtype)
    for k in range(op.Squeeze(op.Shape(scores))):
        logits = op.MatMul(rows, op.MatMul(op.Gather(mask_logits, k), columns))
        mask = op.Sigmoid(logits)
        area = op.ReduceSum(op.Cast(mask >= mask_threshold, to=INT32.dtype), keepdims=0)
        areas = op.Concat(areas, op.Cast(op.Unsqueeze(area, [0]), to=INT64.dtype), axis=0)
        weighted = mask * op.Gather(scores, k)
        wins = weighted > best
        winners = op.Where(wins, op.Cast(k + 1, to=INT32.dtype), winners)
        best = op.Max(weighted, best)
    # The winner's mask reaches the threshold where p * mask reaches p * threshold; before any query nothing does.
    least = op.Concat([0.0], scores * mask_threshold, axis=0)
    inside = best >= op.Gather(least, winners)
    return winners, inside, areas


@script()
def count_pixels(winners: INT32, inside: BOOL, num_queries: INT64):
    """Pixels won by each query, and those of them inside of its mask, both int64 (K + 1,) with "none" in front."""
    codes = op.Reshape(winners * 2 + op.Cast(inside, to=INT32.dtype), [-1])
    bins = op.Expand(op.Cast(0, to=INT64.dtype), op.Unsqueeze(2 * (num_queries + 1), [0]))
    ones = op.Expand(op.Cast(1, to=INT64.dtype), op.Shape(codes))
    counts = op.Reshape(
        op.ScatterElements(bins, op.Cast(codes, to=INT64.dtype), ones, axis=0, reduction="add"), [-1, 2]
    )
    return op.ReduceSum(counts, [1], keepdims=0), op.Gather(counts, 1, axis=1)


@script()
def merge_segments(
    labels: INT64, scores: FLOAT, won: INT64, inside: INT64, areas: INT64, overlap_threshold: DOUBLE, is_fused: BOOL
):
    """Decide which segment each query's pixels belong to; all inputs of queries are (K + 1,) with "none" in front.

    Returns the segment id of each query (0 = void), and of the S segments the columns (S, 4) and scores (S,).
    """
    share = op.Cast(won, to=DOUBLE.dtype) / op.Cast(op.Max(areas, 1), to=DOUBLE.dtype)
    kept = (op.Min(won, inside, areas) > 0) & (share >= overlap_threshold)
    fused = op.Gather(is_fused, labels)
    mergeable = kept & fused
    same_label = op.Equal(op.Unsqueeze(labels, [1]), op.Unsqueeze(labels, [0]))
    both = op.And(op.Unsqueeze(mergeable, [1]), op.Unsqueeze(mergeable, [0]))
    itself = op.Cast(op.EyeLike(op.Cast(same_label, to=INT64.dtype)), to=BOOL.dtype)
    members = op.Or(op.And(same_label, both), itself)

    first_member = op.ArgMax(op.Cast(members, to=INT32.dtype), axis=1, keepdims=0)
    starts = kept & (first_member == op.Range(0, op.Squeeze(op.Shape(labels)), 1))
    numbers = op.CumSum(op.Cast(starts, to=INT64.dtype), 0)
    ids = op.Where(kept, op.Gather(numbers, first_member), op.Cast(0, to=INT64.dtype))

    total = op.ReduceSum(op.Where(members, op.Unsqueeze(inside, [0]), op.Cast(0, to=INT64.dtype)), [1], keepdims=0)
    best = op.ReduceMax(op.Where(members, op.Unsqueeze(scores, [0]), 0.0), [1], keepdims=0)
    columns = op.Concat(
        op.Unsqueeze(numbers, [1]),
        op.Unsqueeze(labels, [1]),
        op.Unsqueeze(op.Cast(fused, to=INT64.dtype), [1]),
        op.Unsqueeze(total, [1]),
        axis=1,
    )
    return ids, op.Compress(columns, starts, axis=0), op.Compress(best, starts, axis=0)


@script()
def panoptic_segmentation(
    class_queries_logits: FLOAT[...],
    masks_queries_logits: FLOAT[...],
    image_sizes: INT64[...],
    target_size: INT64[2],
    threshold: DOUBLE,
    mask_threshold: DOUBLE,
    overlap_mask_area_threshold: DOUBLE,
    is_fused: BOOL[...],
):
    """A batch of logits -> id maps (batch, height, width), segments (batch, N, 4) and scores (batch, N)."""
    probs = op.Softmax(class_queries_logits, axis=-1)
    all_scores = op.ReduceMax(probs, [-1], keepdims=0)
    all_labels = op.ArgMax(probs, axis=-1, keepdims=0)
    no_object = op.Squeeze(op.Shape(class_queries_logits, start=2, end=3)) - 1
    is_object = op.Not(op.Equal(all_labels, no_object))
    kept = is_object & (all_scores > op.Cast(threshold, to=FLOAT.dtype))

    num_queries = op.Shape(class_queries_logits, start=1, end=2)
    grid_height = op.Squeeze(op.Shape(masks_queries_logits, start=2, end=3))
    grid_width = op.Squeeze(op.Shape(masks_queries_logits, start=3, end=4))

    segmentation = op.Expand(op.Cast(0, to=INT32.dtype), op.Concat([0], target_size, axis=0))
    segments = op.Expand(op.Cast(0, to=INT64.dtype), op.Concat([0], num_queries, [4], axis=0))
    segment_scores = op.Expand(0.0, op.Concat([0], num_queries, axis=0))
    for index in range(op.Squeeze(op.Shape(class_queries_logits, start=0, end=1))):
        queries = op.Reshape(op.NonZero(op.Gather(kept, index)), [-1])
        scores = op.Gather(op.Gather(all_scores, index), queries)
        labels = op.Gather(op.Gather(all_labels, index), queries)
        image_size = op.Gather(image_sizes, index)
        rows = resize_weights(grid_height, op.Gather(image_size, 0), op.Gather(target_size, 0))
        columns = op.Transpose(resize_weights(grid_width, op.Gather(image_size, 1), op.Gather(target_size, 1)))
        mask_logits = op.Gather(op.Gather(masks_queries_logits, index), queries)
        winners, inside, areas = assign_pixels(
            mask_logits, scores, rows, columns, target_size, op.Cast(mask_threshold, to=FLOAT.dtype)
        )
        won_areas, inside_areas = count_pixels(winners, inside, op.Squeeze(op.Shape(scores)))
        ids, new_segments, new_scores = merge_segments(
            op.Concat([0], labels, axis=0),
            op.Concat([0.0], scores, axis=0),
            won_areas,
            inside_areas,
            op.Concat([0], areas, axis=0),
            overlap_mask_area_threshold,
            is_fused,
        )
        id_map = op.Where(inside, op.Gather(op.Cast(ids, to=INT32.dtype), winners), op.Cast(0, to=INT32.dtype))
        segmentation = op.Concat(segmentation, op.Unsqueeze(id_map, [0]), axis=0)
        empty_rows = num_queries - op.Shape(new_scores)
        padded_scores = op.Pad(new_scores, op.Concat([0], empty_rows, axis=0))
        padded_segments = op.Pad(new_segments, op.Concat([0, 0], empty_rows, [0], axis=0))
        segments = op.Concat(segments, op.Unsqueeze(padded_segments, [0]), axis=0)
        segment_scores = op.Concat(segment_scores, op.Unsqueeze(padded_scores, [0]), axis=0)
    return segmentation, segments, segment_scores


def panoptic_graph() -> onnx.ModelProto:
    """The graph of [`panoptic_segmentation`] as a model of its own, without functions."""
    model = panoptic_segmentation.to_model_proto()
    return onnx.inliner.inline_local_functions(model)
