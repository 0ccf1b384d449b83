"""Image processor of YOSO on torchvision: images to model inputs, and model outputs to segmentation maps."""

from typing import Any

import torch
from torch import Tensor
from transformers.image_processing_backends import TorchvisionBackend
from transformers.image_utils import SizeDict

from .image_inputs import read_image
from .image_processing_mixin import YosoImageProcessingMixin, YosoImageProcessorKwargs
from .image_resizing import get_resized_image_size
from .post_processing_mixin import YosoPostProcessingMixin


class YosoImageProcessor(YosoImageProcessingMixin, YosoPostProcessingMixin, TorchvisionBackend):
    """Prepares images for YOSO and turns its outputs into panoptic, instance and semantic segmentations.

    The thresholds and the stuff labels (`label_ids_to_fuse`) of a checkpoint are saved with it. See
    `YosoImageProcessorKwargs` for the arguments beyond those of every image processor.
    """

    valid_kwargs = YosoImageProcessorKwargs

    def process_image(
        self,
        image: Any,
        do_convert_rgb: bool | None = True,
        input_data_format: str | None = None,
        do_rescale: bool | None = True,
        device: str | torch.device | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """One image of any kind -> tensor (C, H, W); see `read_image`."""
        return read_image(image, bool(do_convert_rgb), input_data_format, bool(do_rescale)).to(device)

    def resize(self, image: Tensor, size: SizeDict, resample: Any = None, **kwargs: Any) -> Tensor:
        """Resize (..., H, W) by the rule of `get_resized_image_size`, antialiased."""
        height, width = get_resized_image_size(image.shape[-2:], size)
        return super().resize(image, SizeDict(height=height, width=width), resample=resample, **kwargs)

    def rescale_and_normalize(
        self,
        images: Tensor,
        do_rescale: bool | None,
        rescale_factor: float,
        do_normalize: bool | None,
        image_mean: Any,
        image_std: Any,
    ) -> Tensor:
        """As in Transformers, to the bit, with one pass over memory less: the subtraction also converts to float32."""
        if not do_normalize or images.dtype != torch.uint8:
            return super().rescale_and_normalize(
                images, do_rescale, rescale_factor, do_normalize, image_mean, image_std
            )
        image_mean, image_std, _ = self._fuse_mean_std_and_rescale_factor(
            do_normalize, image_mean, image_std, do_rescale, rescale_factor, images.device
        )
        mean, std = (torch.as_tensor(value, device=images.device).view(-1, 1, 1) for value in (image_mean, image_std))
        return torch.sub(images.contiguous(), mean).div_(std)


__all__ = ["YosoImageProcessor"]
