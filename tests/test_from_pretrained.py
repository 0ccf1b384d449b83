"""Initial weights, saving and loading."""

import math
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import TimmBackboneConfig

from tiny_yoso import tiny_config, tiny_model
from transformers_yoso import YosoForUniversalSegmentation, YosoModel
from transformers_yoso.models.modulated_deformable_conv import ModulatedDeformableConv2d

CLASS_BIAS = -math.log(99)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_model(stuff_label_ids=[5]).save_pretrained(tmp_path)
    return tmp_path


def assert_xavier(weight: Tensor) -> None:
    """Uniform and as wide as Xavier's bound."""
    fan_out, fan_in = weight.shape[:2]
    bound = math.sqrt(6 / (fan_in + fan_out) / weight[0, 0].numel())
    assert 0.9 * bound < weight.abs().max() <= bound
    assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.15)


# Initial weights


def test_neck_starts_from_xavier() -> None:
    torch.manual_seed(0)
    neck = YosoModel(tiny_config("resnet18", pyramid_channels=None)).feature_pyramid_aggregator
    for name, parameter in neck.named_parameters():
        if parameter.dim() == 4 and name != "aggregation.bias":
            assert_xavier(parameter.detach())
    assert not neck.aggregation.bias.any()
    deformable_convs = [module for module in neck.modules() if isinstance(module, ModulatedDeformableConv2d)]
    assert len(deformable_convs) == 3
    for module in deformable_convs:
        assert not module.offset_conv.bias.any()
    # torch's default of a convolution.
    assert 0 < neck.output_conv.bias.abs().max() <= 1 / math.sqrt(neck.output_conv.weight[0].numel())


def test_decoder_starts_from_narrow_normals_and_the_class_prior() -> None:
    torch.manual_seed(0)
    model = YosoForUniversalSegmentation(tiny_config(hidden_dim=64))
    attention_bound = math.sqrt(6 / (4 * 64))
    for name, module in [*model.model.decoder.named_modules(), *model.class_branches.named_modules()]:
        if isinstance(module, nn.Linear) and re.search(r"[qkv]_proj$", name):
            assert 0.9 * attention_bound < module.weight.abs().max() <= attention_bound, name
        elif isinstance(module, nn.Linear):
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.15), name
        elif isinstance(module, nn.LayerNorm):
            assert (module.weight == 1).all()
        if isinstance(module, nn.Linear | nn.LayerNorm) and module.bias is not None:
            expected = CLASS_BIAS if name.endswith("classifier") else 0
            torch.testing.assert_close(module.bias, torch.full_like(module.bias, expected))
    assert len(model.class_branches) == 2


def test_backbone_keeps_the_initialisation_of_timm() -> None:
    torch.manual_seed(0)
    backbone = YosoModel(tiny_config("convnext_tiny")).backbone._backbone
    assert (backbone.stages_0.blocks[0].gamma == 1e-6).all()
    assert (backbone.stem_0.weight.std() - 0.02).abs() < 2e-3


def test_weights_that_a_checkpoint_lacks_are_initialised() -> None:
    model = YosoForUniversalSegmentation.from_pretrained(None, config=tiny_config(), state_dict={})
    assert_xavier(model.model.feature_pyramid_aggregator.output_conv.weight.detach())
    for branch in model.class_branches:
        torch.testing.assert_close(branch.classifier.bias, torch.full((7,), CLASS_BIAS))


# Saving and loading


@pytest.mark.parametrize("backbone_config", [None, TimmBackboneConfig(backbone="resnet18", freeze_batch_norm_2d=True)])
def test_loaded_model_is_the_saved_one(tmp_path: Path, backbone_config: TimmBackboneConfig | None) -> None:
    changes = {} if backbone_config is None else {"backbone_config": backbone_config}
    model = tiny_model(**changes)
    with torch.no_grad():
        for buffer in model.buffers():
            if buffer.is_floating_point():
                buffer += 0.1 * torch.rand_like(buffer)
    model.save_pretrained(tmp_path)
    loaded, report = YosoForUniversalSegmentation.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    assert not loaded.training
    state = model.state_dict()
    assert list(loaded.state_dict()) == list(state)
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, state[name]), name
    # In float64: where tensors lie in memory may change the order of sums, and in float32 flip a hard mask's pixel.
    pixel_values = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        found, expected = loaded.double()(pixel_values), model.double()(pixel_values)
    torch.testing.assert_close(found.masks_queries_logits, expected.masks_queries_logits)
    torch.testing.assert_close(found.class_queries_logits, expected.class_queries_logits)


def test_half_precision_checkpoint_loads_as_float32(folder: Path, tmp_path: Path) -> None:
    YosoForUniversalSegmentation.from_pretrained(folder).half().save_pretrained(tmp_path / "half")
    saved = load_file(tmp_path / "half" / "model.safetensors")
    assert {tensor.dtype for tensor in saved.values() if tensor.is_floating_point()} == {torch.float16}
    assert YosoForUniversalSegmentation.from_pretrained(tmp_path / "half").dtype == torch.float16
    model = YosoForUniversalSegmentation.from_pretrained(tmp_path / "half", dtype=torch.float32)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, saved[name].to(tensor.dtype)), name
        assert tensor.dtype == torch.float32 or not tensor.is_floating_point(), name
    assert model(torch.randn(1, 3, 64, 64)).masks_queries_logits.dtype == torch.float32


@pytest.mark.parametrize("content", ["nothing", "config only"])
def test_folder_without_weights_is_named(tmp_path: Path, content: str) -> None:
    if content == "config only":
        tiny_config().save_pretrained(tmp_path)
    with pytest.raises(OSError, match=re.escape(str(tmp_path))):
        YosoForUniversalSegmentation.from_pretrained(tmp_path)


@pytest.mark.parametrize("labels", [{"num_labels": 3}, {"id2label": {0: "car", 1: "sky", 2: "tree"}}])
def test_checkpoint_for_another_number_of_classes(folder: Path, labels: dict) -> None:
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        YosoForUniversalSegmentation.from_pretrained(folder, **labels)
    model, report = YosoForUniversalSegmentation.from_pretrained(
        folder, **labels, ignore_mismatched_sizes=True, output_loading_info=True
    )
    replaced = {f"class_branches.{stage}.classifier.{name}" for stage in range(2) for name in ("weight", "bias")}
    assert {key for key, *_ in report["mismatched_keys"]} == replaced
    saved = load_file(folder / "model.safetensors")
    for name, tensor in model.state_dict().items():
        assert name in replaced or torch.equal(tensor, saved[name]), name
    for branch in model.class_branches:
        torch.testing.assert_close(branch.classifier.bias, torch.full((4,), CLASS_BIAS))
        assert 0 < branch.classifier.weight.std() < 0.04
    outputs = model(torch.randn(1, 3, 64, 64))
    assert outputs.class_queries_logits.shape == (1, 10, 4)
