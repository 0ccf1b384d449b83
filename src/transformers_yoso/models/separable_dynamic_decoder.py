"""Separable dynamic decoder (paper section 3.3): proposal kernels, refined stage by stage into mask kernels."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from .attention_block import AttentionBlock
from .configuration_yoso import YosoConfig, check_num_inference_stages
from .post_attention import PostAttention
from .pre_attention import PreAttention


class HiddenLayers(nn.Sequential):
    """`num_layers` times (Linear without bias, LayerNorm, ReLU), the trunk of a class or mask branch."""

    def __init__(self, hidden_dim: int, num_layers: int) -> None:
        super().__init__(
            *(
                nn.Sequential(nn.Linear(hidden_dim, hidden_dim, bias=False), nn.LayerNorm(hidden_dim), nn.ReLU())
                for _ in range(num_layers)
            )
        )


class MaskBranch(nn.Module):
    """Kernels -> mask kernels -> mask logits, a product with the feature map without bias."""

    def __init__(self, hidden_dim: int, num_layers: int) -> None:
        super().__init__()
        self.layers = HiddenLayers(hidden_dim, num_layers)
        self.mask_kernels = nn.Linear(hidden_dim, hidden_dim)

    def forward(self, kernels: Tensor, features: Tensor) -> Tensor:
        """`(B, N, d)` and S `(B, d, h, w)` -> mask logits `(B, N, h, w)`."""
        mask_kernels = self.mask_kernels(self.layers(kernels))
        return torch.bmm(mask_kernels, features.flatten(2)).unflatten(2, features.shape[-2:])


class DecoderStage(GradientCheckpointingLayer):
    """One refinement: pre-attention, attention blocks, post-attention, mask branch."""

    def __init__(self, config: YosoConfig) -> None:
        super().__init__()
        self.pre_attention = PreAttention()
        self.attention_blocks = nn.ModuleList(AttentionBlock(config) for _ in range(config.num_attention_blocks))
        self.post_attention = PostAttention(config)
        self.mask_branch = MaskBranch(config.hidden_dim, config.num_mask_layers)

    def forward(self, kernels: Tensor, mask_logits: Tensor, features: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """
        Args:
            kernels (`Tensor` of shape `(B, N, d)`): Kernels of the stage before.
            mask_logits (`Tensor` of shape `(B, N, h, w)`): Mask logits of the stage before.
            features (`Tensor` of shape `(B, d, h, w)`): Feature map S.

        Returns:
            The refined kernels `(B, N, d)`, the mask logits `(B, N, h, w)` and the attention weights
            `(B, heads, N, N)`, or `None` in their place if the attention implementation does not give them.
        """
        hidden = self.pre_attention(mask_logits, features)
        for block in self.attention_blocks:
            hidden = block(kernels, hidden)
        refined, weights = self.post_attention(hidden.to(kernels.dtype))
        return refined, self.mask_branch(refined, features), weights


@dataclass
class DecoderOutput:
    """What the decoder gives, stage by stage; T is the number of stages that ran.

    kernels: T + 1 tensors `(B, N, d)`, the proposal kernels first.
    mask_logits: T + 1 tensors `(B, N, h, w)`, those of the proposal kernels first; or the last of them alone.
    attentions: T tensors `(B, heads, N, N)`, or `None` each.
    """

    kernels: tuple[Tensor, ...]
    mask_logits: tuple[Tensor, ...]
    attentions: tuple[Tensor | None, ...]


class SeparableDynamicDecoder(nn.Module):
    """Proposal kernels and T stages; every stage has its own weights."""

    def __init__(self, config: YosoConfig) -> None:
        super().__init__()
        self.config = config
        self.proposal_kernels = nn.Conv2d(config.hidden_dim, config.num_queries, kernel_size=1)
        self.stages = nn.ModuleList(DecoderStage(config) for _ in range(config.num_stages))

    @property
    def active_stages(self) -> tuple[DecoderStage, ...]:
        """The stages that run: in evaluation the first `config.num_inference_stages`, all if that is not set.

        Raises:
            ValueError: there are not so many stages.
        """
        number = None if self.training else self.config.num_inference_stages
        check_num_inference_stages(number, len(self.stages))
        return tuple(self.stages)[:number]

    def forward(self, features: Tensor, every_stage: bool = True) -> DecoderOutput:
        """
        Args:
            features (`Tensor` of shape `(B, d, h, w)`): Feature map S.
            every_stage (`bool`): Return the mask logits of every stage, not of the last alone, which without gradients
                takes less memory.
        """
        mask_logits = self.proposal_kernels(features)
        kernels = self._proposal_kernels_of(features).expand(features.shape[0], -1, -1)
        all_kernels, all_mask_logits, attentions = [kernels], [mask_logits], []
        for stage in self.active_stages:
            if not every_stage:
                all_mask_logits.clear()
            kernels, mask_logits, weights = stage(kernels, mask_logits, features)
            all_kernels.append(kernels)
            all_mask_logits.append(mask_logits)
            attentions.append(weights)
        return DecoderOutput(tuple(all_kernels), tuple(all_mask_logits), tuple(attentions))

    def _proposal_kernels_of(self, features: Tensor) -> Tensor:
        """The proposal convolution's weight `(N, d)`; where an adapter (PEFT) stands in for it, its answer to units."""
        if isinstance(self.proposal_kernels, nn.Conv2d):
            return self.proposal_kernels.weight.flatten(1)
        units = torch.eye(features.shape[1], dtype=features.dtype, device=features.device)[None, :, :, None]
        answers = self.proposal_kernels(units) - self.proposal_kernels(torch.zeros_like(units))
        return answers[0, :, :, 0]
