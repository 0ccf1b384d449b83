"""What is measured: one photo at one input size, and the logits for post-processing."""

from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ..models.image_inputs import read_image
from ..models.image_processing_yoso import YosoImageProcessor

Size = tuple[int, int]
"""Height and width in pixels."""


def parse_size(text: str, divisor: int = 1) -> Size:
    """`"512x800"` -> (512, 800).

    Raises:
        ValueError: another form, or a side that is no positive multiple of `divisor`.
    """
    height, separator, width = text.lower().partition("x")
    if not (separator and height.isdecimal() and width.isdecimal()):
        raise ValueError(f"A size is HEIGHTxWIDTH, for example 512x800, not {text!r}.")
    size = (int(height), int(width))
    if any(side == 0 or side % divisor for side in size):
        raise ValueError(f"The sides of {text!r} must be positive multiples of {divisor}.")
    return size


@dataclass(frozen=True)
class Case:
    """One input size.

    Attributes:
        image: file of the photo.
        input_size: of the resized photo, which fills its canvas.
        target_size: of the id map, the size of the original.
    """

    image: Path
    input_size: Size
    target_size: Size

    @property
    def name(self) -> str:
        """For example "512x800"."""
        return "x".join(map(str, self.input_size))

    def decode(self) -> Tensor:
        """File -> uint8 `(3, height, width)`, as large as it is."""
        with Image.open(self.image) as photo:
            return read_image(photo)

    def original(self) -> Tensor:
        """The decoded photo at `target_size`, as from a camera of that resolution: uint8 `(3, *target_size)`."""
        with Image.open(self.image) as photo:
            return read_image(photo.convert("RGB").resize(self.target_size[::-1]))

    def preprocess(
        self, original: Tensor, image_processor: YosoImageProcessor, device: torch.device | None = None
    ) -> Tensor:
        """Original -> normalised `(1, 3, *input_size)`; on a GPU the uint8 values go there first."""
        height, width = self.input_size
        size = {"height": height, "width": width}
        return image_processor(images=original, size=size, device=device, return_tensors="pt")["pixel_values"]
