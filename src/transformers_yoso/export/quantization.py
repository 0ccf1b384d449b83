"""int8 form of an exported model: convolutions with static scales, by onnxruntime's own tools."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from .onnx_predict import OnnxPredictor

KEPT_IN_FLOAT = ("offset_conv", "location_conv", "proposal_kernels")
"""Convolutions whose error moves sampling positions, coordinates or hard masks."""


class _Photos(CalibrationDataReader):
    """The graph's inputs for each photo."""

    def __init__(self, predictor: OnnxPredictor, photos: Sequence[Any]) -> None:
        self._inputs = self._read(predictor, photos)

    @staticmethod
    def _read(predictor: OnnxPredictor, photos: Sequence[Any]) -> Iterator[dict[str, Any]]:
        for photo in photos:
            pixel_values = predictor.preprocess(photo)
            yield predictor.graph_inputs(pixel_values, pixel_values.shape[-2:])

    def get_next(self) -> dict[str, Any] | None:
        return next(self._inputs, None)


def quantize_onnx(onnx_path: str | os.PathLike, output_path: str | os.PathLike, photos: Sequence[Any]) -> Path:
    """Quantise the convolutions of an exported model to 8 bits (weights a channel, activations a tensor; QDQ).

    Deformable and transposed convolutions, for which onnxruntime has no integer kernels on CPUs, the decoder and
    `KEPT_IN_FLOAT` stay in float32.

    Args:
        onnx_path: From [`export_onnx`].
        output_path: File of the quantised model; keeps the metadata, so `OnnxPredictor` takes it.
        photos: PIL images, arrays or paths for the ranges of activations; some dozens of the training split.

    Raises:
        ValueError: without photos, or if both paths are one.
    """
    if not photos:
        raise ValueError("`photos` is empty: static quantisation needs photos to measure activations on.")
    if Path(onnx_path).resolve() == Path(output_path).resolve():
        raise ValueError("`output_path` must not be the file that is quantised.")
    predictor = OnnxPredictor(onnx_path)
    model = onnx.load(onnx_path)
    kept = [
        node.name
        for node in model.graph.node
        if node.op_type == "Conv" and any(part in name for part in KEPT_IN_FLOAT for name in node.input)
    ]
    Path(output_path).parent.mkdir(parents=True, exist_ok=True)
    quantize_static(
        model,
        output_path,
        _Photos(predictor, photos),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["Conv"],
        nodes_to_exclude=kept,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        # 7-bit weights: the 16-bit sums of CPUs without VNNI overflow with 8.
        reduce_range=True,
    )
    return Path(output_path)
