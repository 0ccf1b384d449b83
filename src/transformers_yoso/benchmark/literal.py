"""The forward pass as the authors released it, step by step, as the yardstick of the benchmark.

Nothing is folded, merged or batched that the released code does not fold, merge or batch: torchvision's deformable
convolution, batch norm on its own, NCHW memory, a feature map of d channels with coordinate channels, `einsum` for
pooling and mask logits, a loop over the images in the dynamic convolution, and class logits of every stage.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

from ..models.attention_block import AttentionBlock
from ..models.backbone import backbone_features
from ..models.dynamic_conv_attention import SeparableDynamicConvAttention
from ..models.feature_pyramid import DeformableUpsampling
from ..models.feature_pyramid_aggregator import FeaturePyramidAggregator
from ..models.modeling_outputs_yoso import YosoForUniversalSegmentationOutput
from ..models.modeling_yoso import ClassBranch, YosoForUniversalSegmentation
from ..models.post_attention import PostAttention
from ..models.separable_dynamic_decoder import DecoderStage


class LiteralUpsampling(nn.Module):
    """Deformable convolution, batch norm, ReLU, transposed convolution, batch norm, ReLU."""

    def __init__(self, upsampling: DeformableUpsampling) -> None:
        super().__init__()
        self.offset_conv = upsampling.deformable_conv.offset_conv
        self.weight = upsampling.deformable_conv.weight
        self.deformable_norm = upsampling.deformable_norm
        self.upsampling_conv = upsampling.upsampling_conv
        self.upsampling_norm = upsampling.upsampling_norm

    def forward(self, features: Tensor) -> Tensor:
        """`(B, C_in, H, W)` -> `(B, C_out, 2H, 2W)`."""
        first, second, mask = torch.chunk(self.offset_conv(features), 3, dim=1)
        offsets = torch.cat((first, second), dim=1)
        features = deform_conv2d(features, offsets, self.weight, padding=1, mask=torch.sigmoid(mask))
        features = F.relu(self.deformable_norm(features))
        return F.relu(self.upsampling_norm(self.upsampling_conv(features)))


class LiteralNeck(nn.Module):
    """Feature pyramid, convolution-first aggregation, coordinate channels, feature map S."""

    def __init__(self, neck: FeaturePyramidAggregator) -> None:
        super().__init__()
        self.lateral_convs = neck.pyramid.lateral_convs
        self.upsamplings = nn.ModuleList(map(LiteralUpsampling, neck.pyramid.upsamplings))
        self.level_convs = neck.aggregation.level_convs
        self.bias = neck.aggregation.bias
        self.output_conv = neck.output_conv
        self.location_conv = neck.location_conv

    def forward(self, features: list[Tensor]) -> Tensor:
        """C2..C5 -> S `(B, d, h, w)`."""
        c2, c3, c4, c5 = (conv(feature) for conv, feature in zip(self.lateral_convs, features, strict=True))
        up3, up4, up5 = self.upsamplings
        p5 = c5
        p4 = c4 + up5(p5)
        p3 = c3 + up4(p4)
        p2 = c2 + up3(p3)
        projected = [conv(level) for conv, level in zip(self.level_convs, (p2, p3, p4, p5), strict=True)]
        enlarged = [
            F.interpolate(level, scale_factor=scale, mode="bilinear", align_corners=False)
            for level, scale in zip(projected[1:], (2, 4, 8), strict=True)
        ]
        aggregated = self.output_conv(projected[0] + sum(enlarged) + self.bias)
        return self.location_conv(torch.cat((aggregated, self.coordinates(aggregated)), dim=1))

    @staticmethod
    def coordinates(like: Tensor) -> Tensor:
        """x and y from -1 to 1: `(B, 2, h, w)`."""
        batch_size, _, height, width = like.shape
        x = torch.linspace(-1, 1, width, device=like.device, dtype=like.dtype)
        y = torch.linspace(-1, 1, height, device=like.device, dtype=like.dtype)
        y, x = torch.meshgrid(y, x, indexing="ij")
        return torch.stack((x, y)).expand(batch_size, -1, -1, -1)


class LiteralDynamicConv(nn.Module):
    """Separable dynamic convolution, image by image: grouped and pointwise `conv1d` with predicted weights."""

    def __init__(self, attention: SeparableDynamicConvAttention) -> None:
        super().__init__()
        self.kernel_size = attention.kernel_size
        self.dynamic_kernels = attention.dynamic_kernels
        self.norm = attention.norm

    def forward(self, queries: Tensor, values: Tensor) -> Tensor:
        """Q and V `(B, N, d)` -> `(B, N, d)`."""
        batch_size, num_queries, _ = queries.shape
        weights = self.dynamic_kernels(queries)
        depthwise = weights[:, :, : self.kernel_size].view(batch_size, num_queries, 1, self.kernel_size)
        pointwise = weights[:, :, self.kernel_size :].view(batch_size, num_queries, num_queries, 1)
        mixed = []
        for image in range(batch_size):
            value = F.conv1d(values[image : image + 1], depthwise[image], padding="same", groups=num_queries)
            mixed.append(F.conv1d(F.relu(value), pointwise[image], padding="same"))
        return self.norm(torch.cat(mixed, dim=0))


class LiteralAttentionBlock(nn.Module):
    """LayerNorm(V + SDCA(Q, V))."""

    def __init__(self, block: AttentionBlock) -> None:
        super().__init__()
        self.attention = LiteralDynamicConv(block.attention)
        self.norm = block.norm

    def forward(self, queries: Tensor, values: Tensor) -> Tensor:
        """Q and V `(B, N, d)` -> `(B, N, d)`."""
        return self.norm(values + self.attention(queries, values))


class LiteralPostAttention(nn.Module):
    """torch's multi-head attention among the kernels, then the feed-forward network."""

    def __init__(self, post_attention: PostAttention) -> None:
        super().__init__()
        attention = post_attention.self_attention
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        hidden_dim = attention.o_proj.in_features
        self.self_attention = nn.MultiheadAttention(hidden_dim, attention.config.num_attention_heads)
        self.self_attention.in_proj_weight = nn.Parameter(torch.cat([proj.weight.data for proj in projections]))
        self.self_attention.in_proj_bias = nn.Parameter(torch.cat([proj.bias.data for proj in projections]))
        self.self_attention.out_proj.weight = attention.o_proj.weight
        self.self_attention.out_proj.bias = attention.o_proj.bias
        self.attention_norm = post_attention.attention_norm
        self.feedforward = post_attention.feedforward
        self.feedforward_norm = post_attention.feedforward_norm

    def forward(self, kernels: Tensor) -> Tensor:
        """`(B, N, d)` -> `(B, N, d)`."""
        sequence = kernels.permute(1, 0, 2)
        attended = self.self_attention(query=sequence, key=sequence, value=sequence)[0].permute(1, 0, 2)
        kernels = self.attention_norm(kernels + attended)
        return self.feedforward_norm(kernels + self.feedforward(kernels))


class LiteralStage(nn.Module):
    """Pooling under hard masks, dynamic convolutions, post-attention, class branch and mask branch."""

    def __init__(self, stage: DecoderStage, class_branch: ClassBranch) -> None:
        super().__init__()
        self.attention_blocks = nn.ModuleList(map(LiteralAttentionBlock, stage.attention_blocks))
        self.post_attention = LiteralPostAttention(stage.post_attention)
        self.class_branch = class_branch
        self.mask_layers = stage.mask_branch.layers
        self.mask_kernels = stage.mask_branch.mask_kernels

    def forward(self, features: Tensor, kernels: Tensor, mask_logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """S, kernels and mask logits of the stage before -> class logits, mask logits and kernels."""
        hard_masks = (mask_logits.sigmoid() > 0.5).to(features.dtype)
        hidden = torch.einsum("bnhw,bchw->bnc", hard_masks, features)
        for block in self.attention_blocks:
            hidden = block(kernels, hidden)
        kernels = self.post_attention(hidden)
        class_logits = self.class_branch(kernels)
        mask_kernels = self.mask_kernels(self.mask_layers(kernels))
        return class_logits, torch.einsum("bnc,bchw->bnhw", mask_kernels, features), kernels


class LiteralDecoder(nn.Module):
    """Proposal kernels and all stages."""

    def __init__(self, model: YosoForUniversalSegmentation) -> None:
        super().__init__()
        decoder = model.model.decoder
        self.proposal_kernels = decoder.proposal_kernels
        pairs = zip(decoder.stages, model.class_branches, strict=True)
        self.stages = nn.ModuleList(LiteralStage(stage, branch) for stage, branch in pairs)

    def forward(self, features: Tensor) -> YosoForUniversalSegmentationOutput:
        """S `(B, d, h, w)` -> logits of the last stage."""
        mask_logits = self.proposal_kernels(features)
        kernels = self.proposal_kernels.weight.squeeze(-1).squeeze(-1).expand(features.shape[0], -1, -1)
        for stage in self.stages:
            class_logits, mask_logits, kernels = stage(features, kernels, mask_logits)
        return YosoForUniversalSegmentationOutput(class_queries_logits=class_logits, masks_queries_logits=mask_logits)


class LiteralYoso(nn.Module):
    """The released forward with a copy of the weights of `model`, in evaluation mode.

    Args:
        model (`YosoForUniversalSegmentation`): In its plain form (not fused).
    """

    def __init__(self, model: YosoForUniversalSegmentation) -> None:
        super().__init__()
        model = copy.deepcopy(model).eval()
        self.backbone = model.model.backbone
        self.neck = LiteralNeck(model.model.feature_pyramid_aggregator)
        self.decoder = LiteralDecoder(model)
        self.eval()

    def forward(self, pixel_values: Tensor) -> YosoForUniversalSegmentationOutput:
        """`(B, 3, H, W)`, sides multiples of 32 -> class and mask logits."""
        return self.decoder(self.neck(backbone_features(self.backbone, pixel_values)))
