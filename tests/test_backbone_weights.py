"""Pretrained timm weights in the backbone of a new model."""

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from transformers_yoso.training import (
    DataArguments,
    ModelArguments,
    build_image_processor,
    build_model,
)
from transformers_yoso.training.backbone_weights import load_backbone_weights


def test_timm_weights_give_timm_features(shared_dir, photos):
    file = shared_dir / "weights" / "tf_efficientnet_lite0_imagenet_timm.safetensors"
    arguments = ModelArguments(
        backbone="tf_efficientnet_lite0", backbone_weights=str(file), pyramid_channels=[8, 8, 8, 8]
    )
    model = build_model(arguments, photos.categories).eval()
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0).eval()
    network.load_state_dict(load_file(file), strict=False)
    pixels = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network.forward_intermediates(pixels, indices=[1, 2, 3, 4], intermediates_only=True)
        features = model.model.backbone(pixels).feature_maps
    assert [feature.shape[1] for feature in features] == [24, 40, 112, 320]
    for feature, reference in zip(features, expected, strict=True):
        torch.testing.assert_close(feature, reference, rtol=1e-4, atol=1e-4)
    processor = build_image_processor(arguments, DataArguments(dataset_dir="unused"), photos.categories)
    assert list(processor.image_mean) == [0.5, 0.5, 0.5] and list(processor.image_std) == [0.5, 0.5, 0.5]


def test_flattened_names_are_mapped_and_leftovers_reported(tmp_path):
    whole = timm.create_model("convnext_atto", pretrained=False)
    save_file(whole.state_dict(), tmp_path / "convnext.safetensors")
    backbone = timm.create_model("convnext_atto", features_only=True, pretrained=False)
    unused = load_backbone_weights(backbone, tmp_path / "convnext.safetensors")
    assert unused == sorted(name for name in whole.state_dict() if name.startswith("head."))
    assert torch.equal(backbone.stages_1.blocks[0].conv_dw.weight, whole.stages[1].blocks[0].conv_dw.weight)


def test_unfit_backbone_weights_are_named(tmp_path):
    backbone = timm.create_model("resnet18", features_only=True, pretrained=False)
    before = backbone.conv1.weight.clone()
    state = timm.create_model("resnet18", pretrained=False).state_dict()
    removed = state.pop("layer3.0.conv1.weight")
    save_file(state, tmp_path / "incomplete.safetensors")
    with pytest.raises(ValueError, match=r"layer3\.0\.conv1\.weight"):
        load_backbone_weights(backbone, tmp_path / "incomplete.safetensors")
    save_file({**state, "layer3.0.conv1.weight": removed[:4].contiguous()}, tmp_path / "cut.safetensors")
    with pytest.raises(ValueError, match=r"layer3\.0\.conv1\.weight is \(4, 128, 3, 3\)"):
        load_backbone_weights(backbone, tmp_path / "cut.safetensors")
    (tmp_path / "text.safetensors").write_text("no weights")
    with pytest.raises(ValueError, match="not a safetensors file"):
        load_backbone_weights(backbone, tmp_path / "text.safetensors")
    with pytest.raises(FileNotFoundError, match=r"none\.safetensors"):
        load_backbone_weights(backbone, tmp_path / "none.safetensors")
    assert torch.equal(backbone.conv1.weight, before)
