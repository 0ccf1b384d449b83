"""Colour distortion of photos."""

from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2

HUE_TURN = 36 / 360 * 256
"""Largest turn of the hue in steps of PIL's HSV (256 to the circle)."""


class ColorDistortion(v2.Transform):
    """
    SSD's colour distortion (Liu et al., 1512.02325): brightness, contrast, saturation and hue, each every other time.

    Brightness shifts by up to 32 of 255, contrast and saturation (that of HSV) scale by 0.5 to 1.5, hue turns by up to 36
    degrees; contrast comes first or last. Only photos change, not maps.
    """

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        chosen = torch.rand(5) < 0.5
        brightness, contrast, saturation, hue = (chosen[:4] * (2 * torch.rand(4) - 1)).tolist()
        return {
            "shift": 32 * brightness,
            "contrast": 1 + 0.5 * contrast,
            "saturation": 1 + 0.5 * saturation,
            "turn": round(HUE_TURN * hue),
            "contrast_first": bool(chosen[4]),
        }

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        if not isinstance(inpt, tv_tensors.Image):
            return inpt
        values = np.arange(256)
        before = np.clip(values + params["shift"], 0, 255)
        after = np.clip(values * params["contrast"], 0, 255)
        if params["contrast_first"]:
            before, after = np.clip(before * params["contrast"], 0, 255), values
        photo = _look_up(Image.fromarray(np.ascontiguousarray(inpt.permute(1, 2, 0).numpy())), before)
        if params["saturation"] != 1 or params["turn"]:
            hue, saturation, value = photo.convert("HSV").split()
            hue = _look_up(hue, (values + params["turn"]) % 256)
            saturation = _look_up(saturation, np.clip(values * params["saturation"], 0, 255))
            photo = Image.merge("HSV", (hue, saturation, value)).convert("RGB")
        changed = torch.from_numpy(np.array(_look_up(photo, after))).permute(2, 0, 1)
        return tv_tensors.wrap(changed, like=inpt)


def _look_up(picture: Image.Image, table: np.ndarray) -> Image.Image:
    """Replaces every value 0-255 of every channel by the table's, rounded."""
    rounded = np.rint(table).astype(int).tolist()
    return picture.point(rounded * len(picture.getbands()))
