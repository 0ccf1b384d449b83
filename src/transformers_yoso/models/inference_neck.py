"""The feature pyramid aggregator of the inference form: C2..C5 -> the aggregated map before the location conv."""

import copy

from torch import Tensor, nn

from .deformable_sampling import InferenceDeformableConv2d
from .feature_aggregation import (
    ConvolutionFirstAggregation,
    InterpolationFirstAggregation,
    convolution_first,
    is_linear_fusion,
    upsample,
)
from .feature_pyramid import DeformableUpsampling
from .feature_pyramid_aggregator import FeaturePyramidAggregator
from .inference_convolution import InferenceConv2d, fold_batch_norm, freeze


class InferenceUpsampling(nn.Sequential):
    """[`DeformableUpsampling`] without gradients.

    Args:
        upsampling (`DeformableUpsampling`): In evaluation mode.
        batch_norm (`bool`): Fold the two norms into the convolutions.
        lean_sampling (`bool`): Use [`InferenceDeformableConv2d`].
        channels_last, onednn (`bool`): See [`InferenceConv2d`].
    """

    def __init__(
        self,
        upsampling: DeformableUpsampling,
        batch_norm: bool = True,
        lean_sampling: bool = True,
        channels_last: bool = True,
        onednn: bool = True,
    ) -> None:
        upsampling = copy.deepcopy(upsampling)
        activation = nn.ReLU(inplace=True)
        deformable_conv, deformable_norm = upsampling.deformable_conv, upsampling.deformable_norm
        if lean_sampling:
            if batch_norm:
                fold_batch_norm(deformable_conv, deformable_norm)
                deformable_norm = nn.Identity()
            deformable_conv = InferenceDeformableConv2d(deformable_conv, channels_last, onednn)
        layers = [deformable_conv, deformable_norm, activation]
        upsampling_conv, upsampling_norm = upsampling.upsampling_conv, upsampling.upsampling_norm
        if batch_norm:
            fold_batch_norm(upsampling_conv, upsampling_norm)
            layers += [InferenceConv2d(upsampling_conv, activation, channels_last, onednn)]
        else:
            layers += [InferenceConv2d(upsampling_conv, None, channels_last, onednn), upsampling_norm, activation]
        super().__init__(*layers)


class InferenceNeck(nn.Module):
    """[`FeaturePyramidAggregator`] up to its output conv, without gradients; arguments as [`InferenceUpsampling`].

    Interpolation-first aggregation becomes convolution-first, where that is exact; otherwise it stays as it is.
    """

    def __init__(
        self,
        neck: FeaturePyramidAggregator,
        batch_norm: bool = True,
        lean_sampling: bool = True,
        channels_last: bool = True,
        onednn: bool = True,
    ) -> None:
        super().__init__()

        def convolution(conv: nn.Conv2d) -> InferenceConv2d:
            return InferenceConv2d(conv, None, channels_last, onednn)

        options = (batch_norm, lean_sampling, channels_last, onednn)
        self.lateral_convs = nn.ModuleList(convolution(conv) for conv in neck.pyramid.lateral_convs)
        self.upsamplings = nn.ModuleList(InferenceUpsampling(part, *options) for part in neck.pyramid.upsamplings)
        aggregation = neck.aggregation
        if isinstance(aggregation, InterpolationFirstAggregation) and is_linear_fusion(aggregation.fusion_conv):
            aggregation = convolution_first(aggregation)
        self.level_convs = self.aggregation = None
        if isinstance(aggregation, ConvolutionFirstAggregation):
            self.level_convs = nn.ModuleList(convolution(conv) for conv in aggregation.level_convs)
            self.level_convs[0].bias = aggregation.bias.detach().flatten().clone()
        else:
            self.aggregation = copy.deepcopy(aggregation)
        self.output_conv = convolution(neck.output_conv)
        freeze(self)

    def forward(self, features: list[Tensor]) -> Tensor:
        """C2..C5 -> aggregated map `(B, C, h, w)` at C2's size. Empties the list, to free each map after its use."""
        size = features[0].shape[-2:]
        level = self.lateral_convs[-1](features.pop())
        coarse = []
        for index in (2, 1, 0):
            coarse.append(level if self.level_convs is None else self.level_convs[index + 1](level))
            level = self.lateral_convs[index](features.pop(), self.upsamplings[index](level), overwrite=True)
        if self.level_convs is None:
            return self.output_conv(self.aggregation([level, *coarse[::-1]]))
        # Only now, as the upsampled maps are large.
        total = upsample(coarse.pop(), size)
        while coarse:
            total = total.add_(upsample(coarse.pop(), size))
        return self.output_conv(self.level_convs[0](level, total, overwrite=True))
