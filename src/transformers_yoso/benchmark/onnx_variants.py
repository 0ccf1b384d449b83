"""Our model in onnxruntime: post-processing is in the graph, so that a run is end to end."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..models.image_processing_yoso import YosoImageProcessor
from ..models.modeling_outputs_yoso import YosoForUniversalSegmentationOutput
from ..models.modeling_yoso import YosoForUniversalSegmentation
from .case import Size
from .variants import Settings, UnavailableError, Variant

LOGITS = ["class_queries_logits", "masks_queries_logits"]


class OnnxVariant(Variant):
    """The exported file in onnxruntime, float32.

    Args:
        calibration_images: photos for the quantised form.

    Raises:
        UnavailableError: onnx or onnxruntime is missing, or the settings are not what a file can have.
    """

    def __init__(
        self,
        model: YosoForUniversalSegmentation,
        image_processor: YosoImageProcessor,
        settings: Settings,
        calibration_images: Sequence[Path | Image.Image] = (),
    ) -> None:
        super().__init__(settings)
        if settings.dtype != torch.float32 or settings.compiled:
            raise UnavailableError("an ONNX file runs in float32 and is not compiled by torch")
        try:
            from ..export import OnnxPredictor, export_onnx
        except ImportError as error:
            raise UnavailableError(f"needs the `export` extra: {error}") from error
        self.folder = tempfile.TemporaryDirectory()
        plain_file = export_onnx(model, image_processor, Path(self.folder.name) / "model.onnx")
        file = self.finish(plain_file, calibration_images)
        provider = "CUDAExecutionProvider" if settings.device.type == "cuda" else "CPUExecutionProvider"
        try:
            predictor = OnnxPredictor(file, providers=[provider], num_threads=torch.get_num_threads())
        except ValueError as error:
            raise UnavailableError(str(error)) from error
        self.session = predictor.session

    def finish(self, file: Path, calibration_images: Sequence[Path | Image.Image]) -> Path:
        """The file to run."""
        return file

    def prepare_input(self, pixel_values: Tensor) -> Tensor:
        return pixel_values.cpu().float()

    @staticmethod
    def inputs(pixel_values: Tensor, image_size: Size, target_size: Size) -> dict[str, np.ndarray]:
        """What the graph takes: pixel values (1, 3, H, W), size of the photo in them and size of the map."""
        return {
            "pixel_values": pixel_values.numpy(),
            "image_sizes": np.array([image_size], dtype=np.int64),
            "target_size": np.array(target_size, dtype=np.int64),
        }

    def forward(self, pixel_values: Tensor) -> YosoForUniversalSegmentationOutput:
        size = (pixel_values.shape[-2], pixel_values.shape[-1])
        class_logits, mask_logits = self.session.run(LOGITS, self.inputs(pixel_values, size, size))
        return YosoForUniversalSegmentationOutput(
            class_queries_logits=torch.from_numpy(class_logits), masks_queries_logits=torch.from_numpy(mask_logits)
        )

    def end_to_end(self, pixel_values: Tensor, image_size: Size, target_size: Size) -> dict[str, Any]:
        names = ["segmentation", "segments"]
        segmentation, segments = self.session.run(names, self.inputs(pixel_values, image_size, target_size))
        rows = segments[0][segments[0][:, 0] > 0].tolist()
        segments_info = [{"id": row[0], "label_id": row[1], "was_fused": bool(row[2])} for row in rows]
        return {"segmentation": torch.from_numpy(segmentation[0]), "segments_info": segments_info}


class Int8OnnxVariant(OnnxVariant):
    """The exported file with int8 weights and activations, calibrated on photos."""

    def finish(self, file: Path, calibration_images: Sequence[Path | Image.Image]) -> Path:
        from ..export import quantize_onnx

        if not calibration_images:
            raise UnavailableError("int8 needs photos to calibrate on")
        return quantize_onnx(file, file.with_name("model_int8.onnx"), list(calibration_images))
