"""The network as an ONNX graph: padded images in, class and mask logits out, at any batch size and canvas."""

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import onnx
import timm.layers.padding
import torch
from torch import Tensor, nn

from ..models import modulated_deformable_conv
from ..models.canvas import SIZE_DIVISOR
from ..models.modeling_yoso import YosoForUniversalSegmentation
from .deformable_sampling import DEFORMABLE_CONVOLUTIONS

LOGIT_NAMES = ("class_queries_logits", "masks_queries_logits")
EXAMPLE_SHAPE = (2, 3, 128, 192)
MAX_BATCH, MAX_SIDE = 1024, 16384
"""Images and pixels; torch's exporter wants bounds."""


class _Logits(nn.Module):
    """The model with its two logits as a tuple."""

    def __init__(self, model: YosoForUniversalSegmentation) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        outputs = self.model(pixel_values)
        return outputs.class_queries_logits, outputs.masks_queries_logits


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Sets an attribute and puts the old one back."""
    old = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, old)


def same_padding_of_whole_strides(length: int, kernel_size: int, stride: int, dilation: int) -> int:
    """timm's `get_same_padding` for lengths divisible by the stride, as all of a canvas are: no symbols of sizes."""
    return max((kernel_size - 1) * dilation + 1 - stride, 0)


def inference_copy(model: YosoForUniversalSegmentation) -> YosoForUniversalSegmentation:
    """A plain float32 copy on the CPU in evaluation mode; the model itself stays as it is."""
    model = copy.deepcopy(model)
    if model.is_fused:
        model.unfuse()
    return model.to("cpu", torch.float32).eval()


@torch.no_grad()
def network_graph(model: YosoForUniversalSegmentation, deformable_conv: str, opset_version: int) -> onnx.ModelProto:
    """Traces `pixel_values` (batch, 3, height, width), sides of whole multiples of 32, to the two logits.

    Args:
        model: From [`inference_copy`].
        deformable_conv: Name among `DEFORMABLE_CONVOLUTIONS`.
        opset_version: Of the graph.
    """
    rows, columns = (torch.export.Dim(name, max=MAX_SIDE // SIZE_DIVISOR) for name in ("rows", "columns"))
    shapes = {0: torch.export.Dim("batch", max=MAX_BATCH), 2: SIZE_DIVISOR * rows, 3: SIZE_DIVISOR * columns}
    with (
        replaced(timm.layers.padding, "get_same_padding", same_padding_of_whole_strides),
        replaced(modulated_deformable_conv, "modulated_deform_conv2d", DEFORMABLE_CONVOLUTIONS[deformable_conv]),
        warnings.catch_warnings(),
        _quiet("torch.onnx", "onnxscript"),
    ):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            _Logits(model),
            (torch.zeros(EXAMPLE_SHAPE),),
            dynamo=True,
            dynamic_shapes=(shapes,),
            opset_version=opset_version,
            input_names=["pixel_values"],
            output_names=list(LOGIT_NAMES),
            verbose=False,
        )
    return program.model_proto


@contextmanager
def _quiet(*names: str) -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
