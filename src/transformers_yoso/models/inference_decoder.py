"""The decoder of the inference form: masks and pooled values without the d-channel feature map S.

S is linear in the aggregated map o: S = W [o; x; y] + b = L F, with the map F = [o; x; y; 1] and the matrix
L = [W | b]. So mask logits are K S = (K L) F, and the pooled values M Sᵀ = (M Fᵀ) Lᵀ (Observation I once more).
"""

import torch
from torch import Tensor, nn

from .feature_pyramid_aggregator import coordinates
from .pre_attention import POOLING_SCALE
from .separable_dynamic_decoder import DecoderOutput, SeparableDynamicDecoder


def location_features(aggregated: Tensor) -> Tensor:
    """o `(B, C, h, w)` -> F `(B, h, w, C + 3)`: o, x, y and 1 of each pixel."""
    batch_size, _, height, width = aggregated.shape
    x = coordinates(width, aggregated).view(1, width).expand(height, width)
    y = coordinates(height, aggregated).view(height, 1).expand(height, width)
    location = torch.stack((x, y, torch.ones_like(x)), dim=-1).expand(batch_size, -1, -1, -1)
    return torch.cat((aggregated.permute(0, 2, 3, 1), location), dim=-1)


class InferenceDecoder(nn.Module):
    """Runs a [`SeparableDynamicDecoder`] on the aggregated map, without gradients.

    Args:
        decoder (`SeparableDynamicDecoder`): Only its proposals are taken here; it is handed in at each call.
        location_conv (`nn.Conv2d`): 1x1 convolution of [o; x; y], with bias.
    """

    def __init__(self, decoder: SeparableDynamicDecoder, location_conv: nn.Conv2d) -> None:
        super().__init__()
        location = torch.cat((location_conv.weight.detach().flatten(1), location_conv.bias.detach()[:, None]), dim=1)
        kernels, bias = decoder.proposal_kernels.weight.detach().flatten(1), decoder.proposal_kernels.bias.detach()
        proposals = kernels.double() @ location.double()
        proposals[:, -1] += bias.double()
        self.register_buffer("location", location, persistent=False)
        self.register_buffer("proposals", proposals.to(location.dtype), persistent=False)

    def forward(self, decoder: SeparableDynamicDecoder, features: Tensor, every_stage: bool = True) -> DecoderOutput:
        """
        Args:
            decoder (`SeparableDynamicDecoder`): In its plain form.
            features (`Tensor` of shape `(B, h, w, C + 3)`): F, see [`location_features`].
            every_stage (`bool`): See [`SeparableDynamicDecoder.forward`].
        """
        size, features = features.shape[1:3], features.flatten(1, 2)
        kernels = decoder.proposal_kernels.weight.flatten(1).expand(len(features), -1, -1)
        all_kernels, all_mask_logits, attentions = [kernels], [], []
        all_mask_logits.append(torch.matmul(self.proposals.to(features.dtype), features.mT).unflatten(-1, size))
        for stage in decoder.active_stages:
            hidden = self.pool(all_mask_logits[-1], features, overwrite=not every_stage)
            if not every_stage:
                all_mask_logits.clear()
            for block in stage.attention_blocks:
                hidden = block(kernels, hidden)
            kernels, weights = stage.post_attention(hidden.to(kernels.dtype))
            mask_kernels = stage.mask_branch.mask_kernels(stage.mask_branch.layers(kernels)) @ self.location
            all_kernels.append(kernels)
            all_mask_logits.append(torch.bmm(mask_kernels.to(features.dtype), features.mT).unflatten(-1, size))
            attentions.append(weights)
        return DecoderOutput(tuple(all_kernels), tuple(all_mask_logits), tuple(attentions))

    def pool(self, mask_logits: Tensor, features: Tensor, overwrite: bool = False) -> Tensor:
        """[`PreAttention`] on F: mask logits `(B, N, h, w)` and F `(B, h * w, C + 3)` -> V `(B, N, d)`.

        `overwrite` lets it write over the mask logits.
        """
        # 1 or 0 in the masks' dtype at once: a Boolean map on the way takes twice the time.
        hard_masks = (mask_logits if overwrite else mask_logits.clone()).gt_(0).flatten(2)
        scale = POOLING_SCALE if features.dtype == torch.float16 else 1.0
        pooled = torch.bmm(hard_masks if scale == 1.0 else hard_masks * scale, features)
        pooled = pooled.to(torch.promote_types(pooled.dtype, torch.float32))
        with torch.autocast(device_type=features.device.type, enabled=False):
            return pooled @ self.location.to(pooled.dtype).mT / scale
