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
    """o `(B, C, h, w)` -> F `(B, h * w, C + 3)`: o, x, y and 1 of each pixel."""
    batch_size, _, height, width = aggregated.shape
    x = coordinates(width, aggregated).view(1, width).expand(height, width)
    y = coordinates(height, aggregated).view(height, 1).expand(height, width)
    location = torch.stack((x, y, torch.ones_like(x)), dim=-1).expand(batch_size, -1, -1, -1)
    return torch.cat((aggregated.permute(0, 2, 3, 1), location), dim=-1).flatten(1, 2)


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

    def forward(self, decoder: SeparableDynamicDecoder, aggregated: Tensor) -> DecoderOutput:
        """The plain decoder and o `(B, C, h, w)` -> [`DecoderOutput`]."""
        features = location_features(aggregated)
        size, batch_size = aggregated.shape[-2:], len(aggregated)
        mask_logits = torch.matmul(self.proposals.to(features.dtype), features.mT).unflatten(-1, size)
        kernels = decoder.proposal_kernels.weight.flatten(1).expand(batch_size, -1, -1)
        all_kernels, all_mask_logits, attentions = [kernels], [mask_logits], []
        for stage in decoder.active_stages:
            hidden = self.pool(mask_logits, features)
            for block in stage.attention_blocks:
                hidden = block(kernels, hidden)
            kernels, weights = stage.post_attention(hidden.to(kernels.dtype))
            mask_kernels = stage.mask_branch.mask_kernels(stage.mask_branch.layers(kernels)) @ self.location
            mask_logits = torch.bmm(mask_kernels.to(features.dtype), features.mT).unflatten(-1, size)
            all_kernels.append(kernels)
            all_mask_logits.append(mask_logits)
            attentions.append(weights)
        return DecoderOutput(tuple(all_kernels), tuple(all_mask_logits), tuple(attentions))

    def pool(self, mask_logits: Tensor, features: Tensor) -> Tensor:
        """[`PreAttention`] on F: mask logits `(B, N, h, w)` and F `(B, h * w, C + 3)` -> V `(B, N, d)`."""
        hard_masks = (mask_logits > 0).to(features.dtype).flatten(2)
        scale = POOLING_SCALE if features.dtype == torch.float16 else 1.0
        pooled = torch.bmm(hard_masks if scale == 1.0 else hard_masks * scale, features)
        pooled = pooled.to(torch.promote_types(pooled.dtype, torch.float32))
        with torch.autocast(device_type=features.device.type, enabled=False):
            return pooled @ self.location.to(pooled.dtype).mT / scale
