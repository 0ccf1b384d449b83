"""Variants by name: an architecture, then what differs from plain float32, for example `fused+bf16+compiled`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from ..models.image_processing_yoso import YosoImageProcessor
from ..models.modeling_yoso import YosoForUniversalSegmentation
from .onnx_variants import Int8OnnxVariant, OnnxVariant
from .peers import PEERS
from .variants import YOSO_VARIANTS, Settings, UnavailableError, Variant

ONNX_VARIANTS = {"onnx": OnnxVariant, "onnx-int8": Int8OnnxVariant}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
COMPILED = "compiled"
ARCHITECTURES = (*YOSO_VARIANTS, *ONNX_VARIANTS, *PEERS)


@dataclass(frozen=True)
class VariantName:
    """A parsed name.

    Attributes:
        architecture: one of `ARCHITECTURES`.
        precision: one of `DTYPES`.
        compiled: whether `torch.compile` is used.
    """

    architecture: str
    precision: str = "fp32"
    compiled: bool = False

    @classmethod
    def parse(cls, text: str) -> "VariantName":
        """Raises `ValueError` on an unknown part, naming the known ones."""
        architecture, *changes = text.split("+")
        precisions = [change for change in changes if change in DTYPES]
        unknown = [change for change in changes if change not in DTYPES and change != COMPILED]
        if architecture not in ARCHITECTURES or unknown or len(precisions) > 1:
            raise ValueError(
                f"Unknown variant {text!r}: write one of {', '.join(ARCHITECTURES)}, then perhaps one of "
                f"{', '.join('+' + precision for precision in DTYPES)}, then perhaps +{COMPILED}."
            )
        return cls(architecture, precisions[0] if precisions else "fp32", COMPILED in changes)

    def __str__(self) -> str:
        precision = [] if self.precision == "fp32" else [self.precision]
        return "+".join((self.architecture, *precision, *([COMPILED] if self.compiled else [])))

    @property
    def is_panoptic(self) -> bool:
        """Whether it is a form of our model."""
        return self.architecture not in PEERS

    def settings(self, device: torch.device) -> Settings:
        """Where and how this variant computes on `device`."""
        return Settings(device, DTYPES[self.precision], self.compiled)


def default_variants(device: torch.device, precision: str) -> list[str]:
    """What is measured unless variants are named; `precision` is the reduced one that float32 is compared with."""
    if device.type != "cuda":
        return [
            *("literal", "plain", "fused", f"fused+{precision}", "fused+compiled", "onnx"),
            *("limit", f"limit+{precision}", "mask2former", "maskformer", "eomt-s", "eomt-b"),
        ]
    peers = [f"{peer}+{precision}+compiled" for peer in ("maskformer", "eomt-s", "eomt-b")]
    return [
        *("literal", "plain", "fused", "fused+fp16", "fused+fp16+compiled", "fused+bf16+compiled", "onnx"),
        *("limit", f"limit+{precision}+compiled", "mask2former", "maskformer", f"mask2former+{precision}", *peers),
    ]


def build_variant(
    name: VariantName,
    model: YosoForUniversalSegmentation,
    image_processor: YosoImageProcessor,
    device: torch.device,
    calibration_images: Sequence[Path | Image.Image] = (),
) -> Variant:
    """
    Args:
        name: which one.
        model: plain float32 model, which is copied where it is changed.
        image_processor: gives the thresholds of the post-processing.
        device: where to compute.
        calibration_images: for int8.

    Raises:
        UnavailableError: with the reason, if it cannot run here.
    """
    settings = name.settings(device)
    if device.type == "cpu" and name.precision == "fp16":
        raise UnavailableError("float16 is measured on GPUs only; CPUs compute it in software")
    if name.architecture in PEERS:
        return PEERS[name.architecture](settings)
    if name.architecture in ONNX_VARIANTS:
        return ONNX_VARIANTS[name.architecture](model, image_processor, settings, calibration_images)
    return YOSO_VARIANTS[name.architecture](model, image_processor, settings)
