"""A memory layout and precision in which training steps are fast."""

from functools import partial

import torch
from torch import Tensor, nn


def prepare_for_speed(model: nn.Module, device: torch.device) -> None:
    """
    Lays the weights out channels last, and on a CPU takes depthwise convolutions out of bfloat16 autocast; in place.

    oneDNN's backward of depthwise convolutions is several times slower in bfloat16 than in float32 (seen with torch
    2.15 on Zen 4), and light backbones are made of them. Weights and their names stay as they are.
    """
    model.to(memory_format=torch.channels_last)
    if device.type != "cpu":
        return
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.groups > 1 and module.groups == module.in_channels:
            module.forward = partial(_in_float32, module.forward)


def _in_float32(convolution: nn.Module, features: Tensor) -> Tensor:
    with torch.autocast(device_type=features.device.type, enabled=False):
        return convolution(features.float())
