"""Batches of panoptic samples as the model's forward takes them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .sample import VOID, PanopticSample, drop_empty_segments


class PanopticCollator:
    """
    Normalises photos, pads them at the right and the bottom to the batch's largest sides and stacks them.

    Target masks stay compact id maps; nothing of the size height x width x segments is made. Segments without a pixel
    are no targets.

    Args:
        image_mean: per channel, in units of [0, 1].
        image_std: per channel, in units of [0, 1].

    Returns:
        A dict with `pixel_values` float `(batch, 3, height, width)` (0 in the padding), `pixel_mask` int64
        `(batch, height, width)` (1 photo, 0 padding), `mask_labels`: list of int32 `(height, width)` id maps with -1
        for void, `class_labels`: list of int64 `(num_segments,)`, and `file_names`: list of str.
    """

    def __init__(self, image_mean: Sequence[float], image_std: Sequence[float]):
        self.mean = torch.tensor(list(image_mean)).view(3, 1, 1) * 255
        self.std = torch.tensor(list(image_std)).view(3, 1, 1) * 255

    def __call__(self, samples: list[PanopticSample]) -> dict[str, Any]:
        samples = [drop_empty_segments(sample) for sample in samples]
        height = max(sample.image.shape[-2] for sample in samples)
        width = max(sample.image.shape[-1] for sample in samples)
        pixel_values = torch.zeros(len(samples), 3, height, width)
        pixel_mask = torch.zeros(len(samples), height, width, dtype=torch.int64)
        mask_labels: list[Tensor] = []
        for index, sample in enumerate(samples):
            rows, columns = sample.segment_map.shape
            pixel_values[index, :, :rows, :columns].copy_(sample.image).sub_(self.mean).div_(self.std)
            pixel_mask[index, :rows, :columns] = 1
            segment_map = torch.full((height, width), VOID, dtype=sample.segment_map.dtype)
            segment_map[:rows, :columns] = sample.segment_map
            mask_labels.append(segment_map)
        return {
            "pixel_values": pixel_values,
            "pixel_mask": pixel_mask,
            "mask_labels": mask_labels,
            "class_labels": [sample.class_labels for sample in samples],
            "file_names": [sample.file_name for sample in samples],
        }
