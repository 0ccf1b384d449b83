"""What makes a training step faster changes neither outputs nor gradients nor what is saved."""

import copy

import pytest
import torch
from torch import nn

from tiny_yoso import tiny_config, tiny_model
from transformers_yoso import YosoForUniversalSegmentation
from transformers_yoso.models.backbone import backbone_features
from transformers_yoso.training.freezing import freeze_first_stages
from transformers_yoso.training.speed import fold_frozen_norms


def frozen_norm_backbone(name: str) -> nn.Module:
    """Backbone in training mode with frozen norms that do something, float64."""
    config = tiny_config(backbone=name)
    config.backbone_config.freeze_batch_norm_2d = True
    torch.manual_seed(0)
    backbone = YosoForUniversalSegmentation(config).model.backbone.double().train()
    for module in backbone.modules():
        if hasattr(module, "running_var"):
            module.running_var.uniform_(0.5, 2)
            module.running_mean.normal_()
    return backbone


@pytest.mark.parametrize("name", ["test_resnet", "tf_efficientnet_lite0"])
def test_folded_frozen_norms_change_neither_features_nor_gradients_nor_names(name: str) -> None:
    plain = frozen_norm_backbone(name)
    folded = copy.deepcopy(plain)
    num_norms = sum("FrozenBatchNorm" in type(module).__name__ for module in plain.modules())
    assert fold_frozen_norms(folded) == num_norms > 0
    image = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    for backbone in (plain, folded):
        sum(feature.square().mean() for feature in backbone_features(backbone, image)).backward()
    for expected, feature in zip(backbone_features(plain, image), backbone_features(folded, image), strict=True):
        torch.testing.assert_close(feature, expected, rtol=1e-11, atol=1e-11)
    for expected, parameter in zip(plain.parameters(), folded.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, expected.grad, rtol=1e-9, atol=1e-12)
    for (name, expected), (saved, value) in zip(plain.state_dict().items(), folded.state_dict().items(), strict=True):
        assert name == saved
        assert torch.equal(value, expected)


def test_trained_norms_are_not_folded() -> None:
    assert fold_frozen_norms(tiny_model().model.backbone) == 0


@pytest.mark.parametrize("backbone", ["test_resnet", "convnext_atto", "mobilenetv4_conv_small"])
def test_frozen_stages_are_the_first_ones_and_get_no_gradient(backbone: str) -> None:
    model = tiny_model(backbone=backbone).train()
    freeze_first_stages(model.model.backbone, 2)
    features = backbone_features(model.model.backbone, torch.randn(2, 3, 64, 64))
    assert [feature.requires_grad for feature in features] == [False, False, True, True]


def test_frozen_stages_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="`frozen_stages` must be 0 to 4, got 5"):
        freeze_first_stages(tiny_model().model.backbone, 5)
