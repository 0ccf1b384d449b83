"""Image processor of YOSO on PIL and NumPy, for where torchvision is missing; resizes exactly as the official code."""

from typing import Any

import numpy as np
from PIL import Image
from transformers.image_processing_backends import PilBackend
from transformers.image_utils import PILImageResampling, SizeDict

from .image_inputs import read_image
from .image_processing_mixin import YosoImageProcessingMixin, YosoImageProcessorKwargs
from .image_resizing import get_resized_image_size
from .post_processing_mixin import YosoPostProcessingMixin


class YosoImageProcessorPil(YosoImageProcessingMixin, YosoPostProcessingMixin, PilBackend):
    """`YosoImageProcessor` without torchvision. Pixels differ by one or two grey levels, from rounding in the resize."""

    valid_kwargs = YosoImageProcessorKwargs

    def process_image(
        self,
        image: Any,
        do_convert_rgb: bool | None = True,
        input_data_format: str | None = None,
        do_rescale: bool | None = True,
        **kwargs: Any,
    ) -> np.ndarray:
        """One image of any kind -> array (C, H, W); see `read_image`."""
        return read_image(image, bool(do_convert_rgb), input_data_format, bool(do_rescale)).numpy(force=True)

    def resize(
        self, image: np.ndarray, size: SizeDict, resample: PILImageResampling | int | None = None, **kwargs: Any
    ) -> np.ndarray:
        """Resize (C, H, W) by the rule of `get_resized_image_size`, with PIL, channel by channel."""
        height, width = get_resized_image_size(image.shape[-2:], size)
        resample = PILImageResampling.BILINEAR if resample is None else resample
        return np.stack([Image.fromarray(channel).resize((width, height), resample) for channel in image])

    def rescale_and_normalize(
        self,
        image: np.ndarray,
        do_rescale: bool | None,
        rescale_factor: float,
        do_normalize: bool | None,
        image_mean: Any,
        image_std: Any,
    ) -> np.ndarray:
        """`TorchvisionBackend.rescale_and_normalize` for arrays (C, H, W)."""
        if do_rescale:
            image = self.rescale(image, rescale_factor)
        return self.normalize(image, image_mean, image_std) if do_normalize else image


__all__ = ["YosoImageProcessorPil"]
