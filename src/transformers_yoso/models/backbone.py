"""The backbone: any timm model with feature levels at strides 4, 8, 16 and 32."""

from collections.abc import Iterable

import timm
import torch
from torch import Tensor, nn
from transformers import AutoBackbone, PreTrainedConfig

FEATURE_STRIDES = [4, 8, 16, 32]


def build_backbone(config: PreTrainedConfig) -> nn.Module:
    """Builds the backbone with random weights.

    Raises:
        ValueError: if it takes images of one size only, or its feature levels are not at strides 4, 8, 16 and 32.
    """
    is_timm = config.model_type == "timm_backbone"
    if is_timm and getattr(timm.get_pretrained_cfg(config.backbone), "fixed_input_size", False):
        backbone = _build_for_any_size(config)
    else:
        backbone = AutoBackbone.from_config(config)
    strides = list(backbone._backbone.feature_info.reduction()) if is_timm else _measured_strides(backbone)
    if strides != FEATURE_STRIDES:
        raise ValueError(
            f"The backbone '{config.backbone if is_timm else config.model_type}' with out_indices "
            f"{list(config.out_indices)} has features at strides {strides}; YOSO needs {FEATURE_STRIDES}. Choose other "
            "`backbone_config.out_indices` ([-4, -3, -2, -1] suits most models) or a hierarchical backbone."
        )
    return backbone


@torch.no_grad()
def _measured_strides(backbone: nn.Module) -> list[int]:
    """Strides of the features of one of Transformers' own backbones, which do not tell them."""
    size = 4 * FEATURE_STRIDES[-1]
    feature_maps = backbone.eval()(torch.zeros(1, 3, size, size)).feature_maps
    backbone.train()
    return [size // feature.shape[-1] for feature in feature_maps]


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
    """`(B, 3, H, W)` -> C2..C5, each `(B, C_i, H / s_i, W / s_i)`, also from timm models that work channels-last."""
    outputs = backbone(pixel_values, output_hidden_states=False, output_attentions=False)
    return channels_first(backbone, outputs.feature_maps)


def channels_first(backbone: nn.Module, features: Iterable[Tensor]) -> list[Tensor]:
    """The backbone's features as `(B, C_i, H_i, W_i)`, whichever way round it gives them."""
    if getattr(getattr(backbone, "_backbone", None), "output_fmt", "NCHW") == "NHWC":
        return [feature.permute(0, 3, 1, 2) for feature in features]
    return list(features)
