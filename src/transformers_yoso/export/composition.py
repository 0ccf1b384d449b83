"""Joins the parts of the exported model: padding to whole strides, network, panoptic post-processing."""

from collections.abc import Callable, Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxscript import FLOAT, script
from onnxscript import opset19 as op

from ..models.canvas import SIZE_DIVISOR
from .network_graph import LOGIT_NAMES
from .panoptic_graph import SEGMENT_COLUMNS, panoptic_graph

OPSET_VERSION = 19
THRESHOLD_NAMES = ("threshold", "mask_threshold", "overlap_mask_area_threshold")
RESULT_NAMES = ("segmentation", "segments", "segment_scores")
INPUTS = (
    helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["batch", 3, "height", "width"]),
    helper.make_tensor_value_info("image_sizes", TensorProto.INT64, ["batch", 2]),
    helper.make_tensor_value_info("target_size", TensorProto.INT64, [2]),
    *(helper.make_tensor_value_info(name, TensorProto.DOUBLE, []) for name in THRESHOLD_NAMES),
)


@script()
def pad_to_whole_strides(pixel_values: FLOAT[...]) -> FLOAT[...]:
    """Zeros right and bottom, up to multiples of the coarsest stride."""
    size = op.Shape(pixel_values, start=2, end=4)
    missing = (size + (SIZE_DIVISOR - 1)) / SIZE_DIVISOR * SIZE_DIVISOR - size
    return op.Pad(pixel_values, op.Concat([0, 0, 0, 0, 0, 0], missing, axis=0))


def compose(network: onnx.ModelProto, thresholds: Mapping[str, float], is_fused: np.ndarray) -> onnx.ModelProto:
    """One model of padding, `network` and post-processing.

    Args:
        network: `pixel_values` -> `LOGIT_NAMES`.
        thresholds: Defaults of the optional inputs `THRESHOLD_NAMES`.
        is_fused: bool (C + 1,), the labels whose segments are merged.
    """
    padding, post = pad_to_whole_strides.to_model_proto().graph, panoptic_graph().graph
    padded = "padded_pixel_values"
    rename_values(network.graph, {"pixel_values": padded}.get)
    rename_values(padding, {"pixel_values": "pixel_values", padding.output[0].name: padded}.get, prefix="padding/")
    names = {name: name for name in ("image_sizes", "target_size", *THRESHOLD_NAMES, *LOGIT_NAMES)}
    names |= {value.name: name for value, name in zip(post.output, RESULT_NAMES, strict=True)}
    rename_values(post, names.get, prefix="panoptic/")

    defaults = {name: np.array(thresholds[name], dtype=np.float64) for name in THRESHOLD_NAMES}
    defaults["panoptic/is_fused"] = is_fused
    graph = helper.make_graph(
        nodes=[*padding.node, *network.graph.node, *post.node],
        name="yoso",
        inputs=INPUTS,
        outputs=[*_results(), *network.graph.output],
        initializer=[
            *network.graph.initializer,
            *(numpy_helper.from_array(value, name) for name, value in defaults.items()),
        ],
    )
    opset = helper.make_opsetid("", OPSET_VERSION)
    return helper.make_model(
        graph, opset_imports=[opset], ir_version=network.ir_version, producer_name="transformers_yoso"
    )


def rename_values(graph: onnx.GraphProto, new_name: Callable[[str], str | None], prefix: str = "") -> None:
    """Renames all values of a graph and its subgraphs, by `new_name` where it gives one, else by the prefix."""

    def renamed(name: str) -> str:
        return name and (new_name(name) or prefix + name)

    for value in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
        value.name = renamed(value.name)
    for node in graph.node:
        node.name = prefix + node.name
        node.input[:] = [renamed(name) for name in node.input]
        node.output[:] = [renamed(name) for name in node.output]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                rename_values(attribute.g, new_name, prefix)


def _results() -> list[onnx.ValueInfoProto]:
    shapes = (
        (TensorProto.INT32, ["batch", "target_height", "target_width"]),
        (TensorProto.INT64, ["batch", "num_queries", len(SEGMENT_COLUMNS)]),
        (TensorProto.FLOAT, ["batch", "num_queries"]),
    )
    return [helper.make_tensor_value_info(name, *shape) for name, shape in zip(RESULT_NAMES, shapes, strict=True)]
