"""Augmentations on photo and segment map together (torchvision v2); the paper's large-scale jitter among them."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F

from ..sample import VOID, PanopticSample, drop_crowd_segments, drop_empty_segments

IMAGE_PAD_VALUE = 128
"""Raw grey value (0-255) around photos that are smaller than the crop, as in the released recipes."""


class LargeScaleJitter(v2.Transform):
    """
    Scales by `s * min(size / height, size / width)` with `s` uniform in `scale_range` (Ghiasi et al., 2012.07177).

    Photos are scaled bilinearly with antialiasing, maps by the nearest pixel centre, so outlines stay on the objects
    (torchvision's own `ScaleJitter` takes the nearest corner, which shifts maps by up to half a pixel).
    """

    def __init__(self, size: int, scale_range: tuple[float, float]):
        super().__init__()
        self.size, self.scale_range = size, scale_range

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        height, width = F.get_size(flat_inputs[0])
        smallest, largest = self.scale_range
        jitter = smallest + (largest - smallest) * float(torch.rand(()))
        scale = jitter * min(self.size / height, self.size / width)
        return {"size": [max(int(side * scale + 0.5), 1) for side in (height, width)]}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        if isinstance(inpt, tv_tensors.Mask):
            resized = F.resize(_plain(inpt)[None], params["size"], InterpolationMode.NEAREST_EXACT)[0]
            return tv_tensors.wrap(resized, like=inpt)
        return F.resize(inpt, params["size"], InterpolationMode.BILINEAR, antialias=True)


class FixedSizeCropOrPad(v2.Transform):
    """Random crop to `size` x `size` pixels; sides that are shorter are padded at the right and the bottom."""

    def __init__(self, size: int):
        super().__init__()
        self.size = size

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        height, width = F.get_size(flat_inputs[0])
        return {
            "top": int(torch.randint(max(height - self.size, 0) + 1, ())),
            "left": int(torch.randint(max(width - self.size, 0) + 1, ())),
            "height": min(height, self.size),
            "width": min(width, self.size),
        }

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        cropped = F.crop(inpt, params["top"], params["left"], params["height"], params["width"])
        fill = VOID if isinstance(inpt, tv_tensors.Mask) else IMAGE_PAD_VALUE
        return F.pad(cropped, [0, 0, self.size - params["width"], self.size - params["height"]], fill=fill)


class ColorDistortion(v2.Transform):
    """
    SSD's colour distortion (Liu et al., 1512.02325): brightness, contrast, saturation and hue, each every other time.

    Brightness shifts by up to 32 of 255, contrast and saturation scale by 0.5 to 1.5, hue turns by up to 36 degrees;
    contrast comes first or last. Only photos change, not maps.
    """

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        chosen = torch.rand(5) < 0.5
        amounts = 2 * torch.rand(4) - 1
        brightness, contrast, saturation, hue = (chosen[:4] * amounts).tolist()
        return {
            "shift": 32 * brightness,
            "contrast": 1 + 0.5 * contrast,
            "saturation": 1 + 0.5 * saturation,
            "turn": 0.1 * hue,
            "contrast_first": bool(chosen[4]),
        }

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        if not isinstance(inpt, tv_tensors.Image):
            return inpt
        first, last = (params["contrast"], 1.0) if params["contrast_first"] else (1.0, params["contrast"])
        scaled = ((inpt.float() + params["shift"]).clamp(0, 255) * first).clamp(0, 255).to(inpt.dtype)
        if params["saturation"] != 1:
            scaled = F.adjust_saturation_image(scaled, params["saturation"])
        if params["turn"] != 0:
            scaled = F.adjust_hue_image(scaled, params["turn"])
        return tv_tensors.wrap((scaled * last).clamp(0, 255).to(inpt.dtype), like=inpt)


class TrainingAugmentation(nn.Module):
    """
    Flip, large-scale jitter, fixed crop/pad and, if asked, SSD's colour distortion.

    Segments that vanish are dropped and crowd segments become void. The random draws come from torch's global generator.

    Args:
        size: side of the square crop in pixels.
        scale_range: smallest and largest scale, 1 fits the photo into the crop (0.1 and 2.0 in the COCO recipe).
        color_distortion: whether brightness, contrast, saturation and hue vary.
    """

    def __init__(self, size: int, scale_range: tuple[float, float] = (0.1, 2.0), color_distortion: bool = False):
        super().__init__()
        if not 0 < scale_range[0] <= scale_range[1]:
            raise ValueError(f"`scale_range` must be 0 < smallest <= largest, got {scale_range}.")
        steps = [
            v2.RandomHorizontalFlip(),
            LargeScaleJitter(size, scale_range),
            FixedSizeCropOrPad(size),
        ]
        if color_distortion:
            steps.append(ColorDistortion())
        self.steps = v2.Compose(steps)

    def forward(self, sample: PanopticSample) -> PanopticSample:
        return apply_to_sample(self.steps, drop_crowd_segments(sample))


def apply_to_sample(transform: nn.Module, sample: PanopticSample) -> PanopticSample:
    """Runs a torchvision v2 transform on photo (bilinear) and map (nearest) with the same random draw."""
    image, mask = transform(tv_tensors.Image(sample.image), tv_tensors.Mask(sample.segment_map))
    changed = replace(sample, image=_plain(image), segment_map=_plain(mask))
    return drop_empty_segments(changed)


def _plain(array: Tensor) -> Tensor:
    return array.as_subclass(torch.Tensor).contiguous()
