"""Pre-attention: pool the feature map under each query's hard mask (paper section 3.3)."""

import torch
from torch import Tensor, nn

# A power of two scales exactly. It keeps the sum over the pixels of a large mask inside of float16's range.
POOLING_SCALE = 2.0**-10


class PreAttention(nn.Module):
    """V = sum over the pixels with sigmoid(mask) > 0.5 of S. A sum, not a mean; no gradient through the hard mask."""

    def forward(self, mask_logits: Tensor, features: Tensor) -> Tensor:
        """
        Args:
            mask_logits (`Tensor` of shape `(B, N, h, w)`).
            features (`Tensor` of shape `(B, d, h, w)`): Feature map S.

        Returns:
            `Tensor`: V of shape `(B, N, d)`, at least float32 as sums grow with the area.
        """
        hard_masks = (mask_logits.detach() > 0).to(features.dtype) * POOLING_SCALE
        pooled = torch.bmm(hard_masks.flatten(2), features.flatten(2).transpose(1, 2))
        return pooled.to(torch.promote_types(pooled.dtype, torch.float32)) / POOLING_SCALE
