"""The backbone: any timm model with feature levels at strides 4, 8, 16 and 32."""

import timm
from torch import Tensor, nn
from transformers import AutoBackbone, PreTrainedConfig

FEATURE_STRIDES = [4, 8, 16, 32]


def build_backbone(config: PreTrainedConfig) -> nn.Module:
    """Builds the backbone with random weights.

    Raises:
        ValueError: if it takes images of one size only, or its feature levels are not at strides 4, 8, 16 and 32.
    """
    if config.model_type != "timm_backbone":
        return AutoBackbone.from_config(config)
    name = config.backbone
    if getattr(timm.get_pretrained_cfg(name), "fixed_input_size", False):
        backbone = _build_for_any_size(config)
    else:
        backbone = AutoBackbone.from_config(config)
    strides = backbone._backbone.feature_info.reduction()
    if list(strides) != FEATURE_STRIDES:
        raise ValueError(
            f"The backbone '{name}' with out_indices {list(config.out_indices)} has features at strides "
            f"{list(strides)}; YOSO needs {FEATURE_STRIDES}. Choose other `backbone_config.out_indices` "
            "([-4, -3, -2, -1] suits most models) or a hierarchical backbone."
        )
    return backbone


def _build_for_any_size(config: PreTrainedConfig) -> nn.Module:
    """Builds a timm model whose default is a fixed input size, with that check off (Swin and its kin)."""
    try:
        return AutoBackbone.from_config(config, strict_img_size=False)
    except TypeError as error:
        raise ValueError(
            f"The backbone '{config.backbone}' takes images of one fixed size only; YOSO's canvas follows the photo. "
            "Choose a convolutional or windowed backbone."
        ) from error


def backbone_features(backbone: nn.Module, pixel_values: Tensor) -> list[Tensor]:
    """`(B, 3, H, W)` -> C2..C5, each `(B, C_i, H / s_i, W / s_i)`, also from backbones that work channels-last."""
    feature_maps = backbone(pixel_values).feature_maps
    return [
        feature if feature.shape[1] == channels else feature.permute(0, 3, 1, 2)
        for feature, channels in zip(feature_maps, backbone.channels, strict=True)
    ]
