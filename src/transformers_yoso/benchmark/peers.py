"""What ours is measured against: the bare backbone, and Transformers' peers in their published sizes.

All have random weights: they take as long as trained ones, and nothing is asked of the Hub.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from transformers import (
    EomtConfig,
    EomtForUniversalSegmentation,
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    MaskFormerConfig,
    MaskFormerForInstanceSegmentation,
    PreTrainedModel,
    ResNetConfig,
)

from .case import Size
from .variants import Settings, Variant

COCO_LABELS = 133
EOMT_INPUT_SIZE = (640, 640)


def fold_norms(backbone: nn.Module) -> nn.Module:
    """Folds, in place, every batch norm into the convolution before it, which must stand before it in its module."""
    for parent in list(backbone.modules()):
        for (conv_name, conv), (norm_name, norm) in pairwise(list(parent.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, conv_name, fuse_conv_bn_eval(conv, norm))
                setattr(parent, norm_name, norm_activation(norm))
    return backbone


def norm_activation(norm: nn.BatchNorm2d) -> nn.Module:
    """What is left of a folded batch norm: its activation, where timm has put one inside."""
    return nn.Sequential(getattr(norm, "drop", nn.Identity()), getattr(norm, "act", nn.Identity()))


class LimitVariant(Variant):
    """The limit: the bare backbone, norms folded, channels-last."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        backbone = timm.create_model("resnet50", features_only=True, out_indices=(1, 2, 3, 4)).eval()
        self.model = settings.place(fold_norms(backbone)).to(memory_format=torch.channels_last)
        self.run = settings.compile(self.model)

    def prepare_input(self, pixel_values: Tensor) -> Tensor:
        return super().prepare_input(pixel_values).contiguous(memory_format=torch.channels_last)

    def forward(self, pixel_values: Tensor) -> list[Tensor]:
        return self.run(pixel_values)


def resnet50_config() -> ResNetConfig:
    """ResNet-50 as a Transformers backbone, which the peers take."""
    return ResNetConfig(out_features=["stage1", "stage2", "stage3", "stage4"], downsample_in_bottleneck=False)


def mask2former() -> PreTrainedModel:
    """Mask2Former with ResNet-50: 6 encoder and 9 decoder layers, 100 queries."""
    return Mask2FormerForUniversalSegmentation(
        Mask2FormerConfig(backbone_config=resnet50_config(), num_labels=COCO_LABELS)
    )


def maskformer() -> PreTrainedModel:
    """MaskFormer with ResNet-50: 6 decoder layers, 100 queries."""
    return MaskFormerForInstanceSegmentation(
        MaskFormerConfig(backbone_config=resnet50_config(), num_labels=COCO_LABELS)
    )


def eomt(hidden_size: int, num_attention_heads: int) -> PreTrainedModel:
    """EoMT on a ViT of 12 layers and patches of 16 px, whose last 3 blocks see the 200 queries."""
    return EomtForUniversalSegmentation(
        EomtConfig(
            hidden_size=hidden_size,
            num_attention_heads=num_attention_heads,
            num_hidden_layers=12,
            num_blocks=3,
            num_queries=200,
            image_size=EOMT_INPUT_SIZE[0],
            num_labels=COCO_LABELS,
        )
    )


class PeerVariant(Variant):
    """One of Transformers' models, forward only."""

    def __init__(
        self, build: Callable[[], PreTrainedModel], settings: Settings, input_size: Size | None = None
    ) -> None:
        super().__init__(settings)
        self.input_size = input_size
        self.model = settings.place(build())
        self.run = settings.compile(self.model)

    def forward(self, pixel_values: Tensor) -> Any:
        return self.run(pixel_values)


PEERS: dict[str, Callable[[Settings], Variant]] = {
    "limit": LimitVariant,
    "mask2former": lambda settings: PeerVariant(mask2former, settings),
    "maskformer": lambda settings: PeerVariant(maskformer, settings),
    "eomt-s": lambda settings: PeerVariant(lambda: eomt(384, 6), settings, EOMT_INPUT_SIZE),
    "eomt-b": lambda settings: PeerVariant(lambda: eomt(768, 12), settings, EOMT_INPUT_SIZE),
}
