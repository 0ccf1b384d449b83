"""ONNX export of every variant; each export compares onnxruntime with torch before it keeps the file."""

from pathlib import Path

import onnx
import pytest

from test_variants import COMBINED
from tiny_yoso import tiny_config, tiny_model
from transformers_yoso.export import export_onnx
from transformers_yoso.models.attention_block import AttentionBlock
from transformers_yoso.models.configuration_yoso import ATTENTION_TYPES
from transformers_yoso.models.image_processing_pil_yoso import YosoImageProcessorPil

VARIANTS = [
    {"aggregator_type": "ifa", "fusion_kernel_size": 3},
    *({"attention_type": name} for name in ATTENTION_TYPES if name != "sdca"),
    {"num_attention_blocks": 3, "dynamic_kernel_size": 1, "num_stages": 1},
    COMBINED,
]


def test_all_attentions_interpolation_first_and_early_exit(tmp_path: Path) -> None:
    """In one model, as tracing takes most of an export's time; what lies after the exit is left out."""
    model = tiny_model(
        aggregator_type="ifa", num_attention_blocks=len(ATTENTION_TYPES), num_stages=2, num_inference_stages=1
    )
    for index, name in enumerate(ATTENTION_TYPES):
        model.model.decoder.stages[0].attention_blocks[index] = AttentionBlock(tiny_config(attention_type=name)).eval()
    path = export_onnx(model, YosoImageProcessorPil(threshold=0.0), tmp_path / "model.onnx")
    weights = [name for node in onnx.load(path).graph.node for name in node.input]
    for index in range(len(ATTENTION_TYPES)):
        assert any(f"stages.0.attention_blocks.{index}.attention" in name for name in weights)
    assert any("fusion_conv" in name for name in weights)
    assert not any("stages.1" in name for name in weights)


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: "-".join(map(str, variant.values())))
def test_exported_file_gives_torchs_logits(variant: dict, tmp_path: Path) -> None:
    path = export_onnx(tiny_model(**variant), YosoImageProcessorPil(threshold=0.0), tmp_path / "model.onnx")
    assert path.is_file()
