"""Interpolation-first to convolution-first aggregation and back: the same outputs (paper Observation I)."""

import copy
import runpy
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from test_fusing import lively_model, max_relative_error
from tiny_yoso import tiny_model
from transformers_yoso import YosoForUniversalSegmentation, YosoImageProcessor, YosoModel
from transformers_yoso.models.feature_aggregation import ConvolutionFirstAggregation, InterpolationFirstAggregation

ROOT = Path(__file__).resolve().parents[1]
CHECKPOINT = ROOT / "checkpoints" / "yoso-lite0-facade"


@pytest.fixture(scope="module")
def trained() -> YosoForUniversalSegmentation:
    return YosoForUniversalSegmentation.from_pretrained(CHECKPOINT, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def photo_inputs(shared_dir: Path) -> dict[str, Tensor]:
    """A real photo of the validation split, as the checkpoint's own processor makes it."""
    path = sorted((shared_dir / "data" / "facade" / "val").glob("*.jpg"))[0]
    return YosoImageProcessor.from_pretrained(CHECKPOINT)(str(path), return_tensors="pt")


def panoptic_map(outputs: object) -> Tensor:
    processor = YosoImageProcessor.from_pretrained(CHECKPOINT)
    return processor.post_process_panoptic_segmentation(outputs, target_sizes=[(512, 512)])[0]["segmentation"]


@torch.no_grad()
def test_trained_checkpoint_on_a_photo(trained: YosoForUniversalSegmentation, photo_inputs: dict) -> None:
    interpolating = copy.deepcopy(trained).to_interpolation_first()
    convolving = copy.deepcopy(interpolating).to_convolution_first()
    expected = interpolating(**photo_inputs)
    found = convolving(**photo_inputs)
    for name in ("feature_map", "class_queries_logits", "masks_queries_logits"):
        assert max_relative_error(found[name], expected[name]) <= 1e-5, name
    segments = panoptic_map(expected)
    assert len(segments.unique()) > 3
    assert torch.equal(panoptic_map(found), segments)
    assert torch.equal(trained(**photo_inputs).masks_queries_logits, found.masks_queries_logits)


@torch.no_grad()
def test_trained_checkpoint_in_double_precision(trained: YosoForUniversalSegmentation, photo_inputs: dict) -> None:
    convolving = copy.deepcopy(trained).double()
    interpolating = copy.deepcopy(convolving).to_interpolation_first()
    inputs = {**photo_inputs, "pixel_values": photo_inputs["pixel_values"].double()}
    expected, found = interpolating(**inputs), convolving(**inputs)
    for name in ("feature_map", "class_queries_logits", "masks_queries_logits"):
        assert max_relative_error(found[name], expected[name]) <= 1e-12, name
    assert torch.equal(panoptic_map(found), panoptic_map(expected))


@pytest.mark.parametrize("model_class", [YosoModel, YosoForUniversalSegmentation])
def test_weights_come_back_unchanged(model_class: type) -> None:
    model = model_class(tiny_model().config)
    nn.init.normal_(model.base_model.feature_pyramid_aggregator.aggregation.bias)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.to_interpolation_first()
    assert model.config.aggregator_type == "ifa"
    assert isinstance(model.base_model.feature_pyramid_aggregator.aggregation, InterpolationFirstAggregation)
    model.to_convolution_first().to_convolution_first()
    assert model.config.aggregator_type == "cfa"
    assert isinstance(model.base_model.feature_pyramid_aggregator.aggregation, ConvolutionFirstAggregation)
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_mode_dtype_and_frozen_weights_stay() -> None:
    model = tiny_model(aggregator_type="ifa").half().train()
    neck = model.model.feature_pyramid_aggregator
    neck.aggregation.requires_grad_(False)
    model.to_convolution_first()
    assert neck.aggregation.training
    assert all(weight.dtype == torch.float16 and not weight.requires_grad for weight in neck.aggregation.parameters())


@torch.no_grad()
def test_fused_model_stays_fused() -> None:
    model, pixel_values = lively_model(aggregator_type="ifa").double(), torch.randn(1, 3, 64, 96).double()
    expected = model(pixel_values)
    model.fuse().to_convolution_first()
    assert model.is_fused
    assert max_relative_error(model(pixel_values).masks_queries_logits, expected.masks_queries_logits) < 1e-9
    assert model.unfuse()(pixel_values).class_queries_logits.isfinite().all()


@torch.no_grad()
def test_biased_fusion_computes_but_is_refused() -> None:
    model = lively_model(aggregator_type="ifa").double()
    fusion = model.model.feature_pyramid_aggregator.aggregation.fusion_conv
    fusion.bias = nn.Parameter(torch.randn(16, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"without bias can be re-parameterised.*`aggregation\.bias`"):
        model.to_convolution_first()
    pixel_values = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    expected = model(pixel_values).masks_queries_logits
    assert max_relative_error(model.fuse()(pixel_values).masks_queries_logits, expected) < 1e-9


def test_wide_fusion_is_refused() -> None:
    model = tiny_model(aggregator_type="ifa", fusion_kernel_size=3)
    with pytest.raises(ValueError, match="Only 1x1 fusion convolutions can be re-parameterised, and this one is 3x3"):
        model.to_convolution_first()
    assert model.config.aggregator_type == "ifa"


def run_script(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    script = ROOT / "scripts" / "reparameterize.py"
    monkeypatch.setattr(sys, "argv", [str(script), *map(str, arguments)])
    runpy.run_path(str(script), run_name="__main__")


def test_script_there_and_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    there, back = tmp_path / "ifa", tmp_path / "cfa"
    run_script(monkeypatch, "--model_name_or_path", CHECKPOINT, "--output_dir", there, "--aggregator_type", "ifa")
    assert "cfa -> ifa" in capsys.readouterr().out
    run_script(monkeypatch, "--model_name_or_path", there, "--output_dir", back)
    assert "ifa -> cfa" in capsys.readouterr().out
    first = YosoForUniversalSegmentation.from_pretrained(CHECKPOINT, dtype=torch.float32).state_dict()
    last = YosoForUniversalSegmentation.from_pretrained(back).state_dict()
    assert all(torch.equal(last[name], tensor) for name, tensor in first.items())
    assert YosoImageProcessor.from_pretrained(back).threshold == YosoImageProcessor.from_pretrained(there).threshold
    with pytest.raises(SystemExit, match="is cfa already"):
        run_script(monkeypatch, "--model_name_or_path", back, "--output_dir", tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_script_refuses_a_biased_fusion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading drops the bias, which the config knows nothing of, with a warning only."""
    model = tiny_model(aggregator_type="ifa")
    model.model.feature_pyramid_aggregator.aggregation.fusion_conv.bias = nn.Parameter(torch.randn(16))
    model.save_pretrained(tmp_path / "biased")
    YosoImageProcessor().save_pretrained(tmp_path / "biased")
    with pytest.raises(SystemExit, match=r"Not re-parameterised: .*biased fusion.*fusion_conv\.bias would be lost"):
        run_script(monkeypatch, "--model_name_or_path", tmp_path / "biased", "--output_dir", tmp_path / "cfa")
    assert not (tmp_path / "cfa").exists()


def test_script_keeps_the_saved_dtype(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(aggregator_type="ifa").half()
    model.save_pretrained(tmp_path / "half")
    YosoImageProcessor().save_pretrained(tmp_path / "half")
    run_script(monkeypatch, "--model_name_or_path", tmp_path / "half", "--output_dir", tmp_path / "cfa")
    converted = YosoForUniversalSegmentation.from_pretrained(tmp_path / "cfa")
    assert converted.dtype == torch.float16 and converted.config.aggregator_type == "cfa"


def test_script_refuses_a_wide_fusion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_model(aggregator_type="ifa", fusion_kernel_size=3).save_pretrained(tmp_path / "wide")
    YosoImageProcessor().save_pretrained(tmp_path / "wide")
    with pytest.raises(SystemExit, match="Not re-parameterised: Only 1x1"):
        run_script(monkeypatch, "--model_name_or_path", tmp_path / "wide", "--output_dir", tmp_path / "cfa")
