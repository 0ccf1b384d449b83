"""Any timm backbone with features at strides 4, 8, 16 and 32: forward, backward, and refusal of the others."""

import pytest
import torch
from transformers import ResNetConfig, TimmBackboneConfig

from tiny_yoso import random_labels, tiny_config
from transformers_yoso import YosoForUniversalSegmentation, YosoModel

BACKBONES = {
    "resnet18": [64, 128, 256, 512],
    "resnet50": [256, 512, 1024, 2048],
    "resnet101": [256, 512, 1024, 2048],
    "convnext_tiny": [96, 192, 384, 768],
    "mobilenetv4_conv_small": [32, 64, 96, 960],
    "tf_efficientnet_lite0": [24, 40, 112, 320],
    "regnety_008": [64, 128, 320, 768],
    "swin_tiny_patch4_window7_224": [96, 192, 384, 768],
    "fastvit_t8": [48, 96, 192, 384],
}
SIZE = (64, 96)


@pytest.mark.parametrize("name", BACKBONES)
def test_forward_and_backward(name: str) -> None:
    torch.manual_seed(0)
    # Without a fixed width the pyramid of the large ones would take most of the time.
    pyramid_channels = None if max(BACKBONES[name]) < 1000 else [8, 16, 16, 24]
    model = YosoForUniversalSegmentation(tiny_config(name, pyramid_channels=pyramid_channels)).train()
    outputs = model(torch.randn(2, 3, *SIZE), **random_labels([3, 2], SIZE))
    assert outputs.masks_queries_logits.shape == (2, 10, 16, 24)
    assert outputs.class_queries_logits.shape == (2, 10, 7)
    assert outputs.loss.isfinite()
    outputs.loss.backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, f"{parameter_name} takes no part in the loss"
        assert parameter.grad.isfinite().all(), parameter_name
    backbone_gradient = sum(parameter.grad.abs().sum() for parameter in model.model.backbone.parameters())
    assert backbone_gradient > 0


@pytest.mark.parametrize("name", BACKBONES)
def test_pyramid_is_half_as_wide_as_the_backbone(name: str) -> None:
    with torch.device("meta"):
        model = YosoModel(tiny_config(name, pyramid_channels=None))
    laterals = model.feature_pyramid_aggregator.pyramid.lateral_convs
    assert [conv.in_channels for conv in laterals] == BACKBONES[name]
    assert [conv.out_channels for conv in laterals] == [channels // 2 for channels in BACKBONES[name]]


def test_pyramid_widths_can_be_set() -> None:
    model = YosoModel(tiny_config("resnet18", pyramid_channels=[5, 6, 7, 9])).eval()
    assert [conv.out_channels for conv in model.feature_pyramid_aggregator.pyramid.lateral_convs] == [5, 6, 7, 9]
    assert model(torch.randn(1, 3, 64, 64)).feature_map.shape == (1, 32, 16, 16)


@pytest.mark.parametrize("size", [(384, 32), (64, 96)])
def test_channels_last_features_are_turned_whatever_the_size_of_the_photo(size: tuple[int, int]) -> None:
    """At 384 pixels C2 of Swin-T is as high as it has channels."""
    model = YosoModel(tiny_config("swin_tiny_patch4_window7_224")).eval()
    seen = []
    model.feature_pyramid_aggregator.register_forward_pre_hook(lambda module, args: seen.extend(args[0]))
    with torch.no_grad():
        feature_map = model(torch.randn(1, 3, *size)).feature_map
    expected = [
        (1, channels, size[0] // stride, size[1] // stride)
        for channels, stride in zip(BACKBONES["swin_tiny_patch4_window7_224"], (4, 8, 16, 32), strict=True)
    ]
    assert [tuple(feature.shape) for feature in seen] == expected
    assert feature_map.shape == (1, 32, size[0] // 4, size[1] // 4)


@pytest.mark.parametrize("name", ["hiera_tiny_224", "vit_tiny_patch16_224"])
def test_backbone_of_a_fixed_input_size_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name}.*one fixed size"):
        YosoModel(tiny_config(name))


@pytest.mark.parametrize(
    ("backbone_config", "strides"),
    [
        (TimmBackboneConfig(backbone="resnet18", out_indices=[0, 1, 2, 3]), r"\[2, 4, 8, 16\]"),
        (TimmBackboneConfig(backbone="resnet18", output_stride=16), r"\[4, 8, 16, 16\]"),
        (ResNetConfig(depths=[1] * 4, hidden_sizes=[16] * 4, out_indices=[0, 1, 2, 3]), r"\[4, 4, 8, 16\]"),
    ],
)
def test_backbone_with_other_strides_is_refused(backbone_config, strides: str) -> None:
    with pytest.raises(ValueError, match=rf"strides {strides}.*out_indices"):
        YosoModel(tiny_config(backbone_config=backbone_config))


def test_a_backbone_of_transformers_works() -> None:
    backbone_config = ResNetConfig(depths=[1] * 4, hidden_sizes=[16, 16, 32, 32], out_indices=[1, 2, 3, 4])
    model = YosoModel(tiny_config(backbone_config=backbone_config))
    assert all(module.training for module in model.modules())
    assert model(torch.randn(2, 3, 64, 96)).feature_map.shape == (2, 32, 16, 24)


@pytest.mark.parametrize("frozen", [True, False])
def test_only_frozen_batch_norm_keeps_its_statistics_in_training(frozen: bool) -> None:
    torch.manual_seed(0)
    backbone_config = TimmBackboneConfig(backbone="resnet18", freeze_batch_norm_2d=frozen)
    model = YosoModel(tiny_config(backbone_config=backbone_config)).train()
    norms = {
        "backbone": model.backbone._backbone.bn1,
        "neck": model.feature_pyramid_aggregator.pyramid.upsamplings[0].upsampling_norm,
    }
    before = {name: norm.running_mean.clone() for name, norm in norms.items()}
    model(torch.randn(2, 3, 64, 64) + 1)
    assert torch.equal(norms["backbone"].running_mean, before["backbone"]) == frozen
    assert not torch.equal(norms["neck"].running_mean, before["neck"])
    assert not any(parameter is norms["backbone"].weight for parameter in model.parameters()) or not frozen
