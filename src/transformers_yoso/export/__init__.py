"""Export to ONNX; needs the extra `export`: `pip install "transformers-yoso[export]"`."""

from .onnx_export import export_onnx
from .onnx_predict import OnnxPredictor
from .parity import ParityError
from .quantization import quantize_onnx

__all__ = ["OnnxPredictor", "ParityError", "export_onnx", "quantize_onnx"]
