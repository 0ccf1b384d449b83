"""ONNX export of every variant; each export compares onnxruntime with torch before it keeps the file."""

from pathlib import Path

import onnx
import pytest

from test_variants import COMBINED
from tiny_yoso import tiny_model
from transformers_yoso.export import export_onnx
from transformers_yoso.models.image_processing_pil_yoso import YosoImageProcessorPil

VARIANTS = [
    {"aggregator_type": "ifa", "attention_type": "mhca", "num_stages": 1},
    {"aggregator_type": "ifa", "fusion_kernel_size": 3, "attention_type": "pdca", "num_stages": 1},
    {"attention_type": "ddca", "num_attention_blocks": 1, "num_stages": 1},
    COMBINED,
]


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: "-".join(map(str, variant.values())))
def test_exported_file_gives_torchs_logits(variant: dict, tmp_path: Path) -> None:
    processor = YosoImageProcessorPil(threshold=0.0)
    path = export_onnx(tiny_model(**variant), processor, tmp_path / "model.onnx")
    assert path.is_file()


def test_early_exit_leaves_the_later_stages_out(tmp_path: Path) -> None:
    processor = YosoImageProcessorPil(threshold=0.0)
    path = export_onnx(tiny_model(num_stages=3, num_inference_stages=1), processor, tmp_path / "model.onnx")
    names = {name for node in onnx.load(path).graph.node for name in node.input}
    assert any("decoder.stages.0" in name for name in names)
    assert not any("decoder.stages.1" in name for name in names)
