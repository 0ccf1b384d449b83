"""The inference form of the model: equal outputs by exact algebra, faster, without gradients.

The plain modules stay as they are and stay the source of truth; what is derived from them lies beside them, in buffers
that no state dict holds.
"""

from collections.abc import Collection

import torch
from torch import Tensor, nn

from .backbone import backbone_features, channels_first
from .feature_pyramid_aggregator import FeaturePyramidAggregator, append_coordinate_features
from .graph_fusion import inference_graph
from .inference_convolution import InferenceConv2d
from .inference_decoder import InferenceDecoder, location_features
from .inference_neck import InferenceNeck
from .separable_dynamic_decoder import DecoderOutput, SeparableDynamicDecoder

TRANSFORMATIONS = {
    "batch_norm": "norms folded into the convolutions before them (backbone and neck)",
    "channels_last": "maps and weights laid out channels-last throughout",
    "lean_sampling": "deformable sampling with int32 indices, few temporaries, and projections by halves",
    "feature_map": "the d-channel feature map is never made: masks and pooled values come from the aggregated map",
    "onednn": "on a CPU, sums and activations applied in place by the convolutions, whose weights stay in oneDNN's layout",
}
"""What [`YosoModel.fuse`] can do, and what each is."""


class InferenceForm(nn.Module):
    """What the inference form derives from a model's weights.

    Args:
        backbone, neck, decoder: The plain parts, in evaluation mode.
        transformations (`Collection[str]`): Names among `TRANSFORMATIONS`.

    Attributes:
        backbone: `(B, 3, H, W)` -> C2..C5, or `None` where the plain backbone, whose code cannot be traced, is used.
        neck: `[C2, ..., C5]` -> aggregated map; empties the list.
        decoder: [`InferenceDecoder`]; `None` without "feature_map".

    Raises:
        ValueError: for an unknown name.
    """

    def __init__(
        self,
        backbone: nn.Module,
        neck: FeaturePyramidAggregator,
        decoder: SeparableDynamicDecoder,
        transformations: Collection[str],
    ) -> None:
        super().__init__()
        if unknown := sorted(set(transformations) - set(TRANSFORMATIONS)):
            raise ValueError(f"Unknown transformations {unknown}; there are {list(TRANSFORMATIONS)}.")
        self.transformations = frozenset(transformations)
        options = {name: name in transformations for name in ("batch_norm", "channels_last", "onednn")}
        traceable = getattr(backbone, "_backbone", None)
        self.backbone = None if traceable is None else inference_graph(traceable, **options)
        self.neck = InferenceNeck(neck, lean_sampling="lean_sampling" in transformations, **options)
        self.decoder = self.location_conv = None
        if "feature_map" in transformations:
            self.decoder = InferenceDecoder(decoder, neck.location_conv)
        else:
            self.location_conv = InferenceConv2d(neck.location_conv, None, options["channels_last"], options["onednn"])
        self.eval()

    @torch.no_grad()
    def forward(
        self, backbone: nn.Module, decoder: SeparableDynamicDecoder, pixel_values: Tensor, every_stage: bool = True
    ) -> tuple[Tensor | None, DecoderOutput]:
        """The plain parts and `(B, 3, H, W)` -> S `(B, d, h, w)`, or `None` with "feature_map", and the decoder's
        outputs, see [`SeparableDynamicDecoder.forward`]."""
        if "channels_last" in self.transformations:
            pixel_values = pixel_values.contiguous(memory_format=torch.channels_last)
        features = self.features(backbone, pixel_values)
        del pixel_values  # the copy, if it is one
        aggregated = self.neck(features)
        if self.decoder is not None:
            features = location_features(aggregated)
            del aggregated  # takes as much memory as its copy
            return None, self.decoder(decoder, features, every_stage)
        feature_map = self.location_conv(append_coordinate_features(aggregated))
        return feature_map, decoder(feature_map, every_stage)

    def features(self, backbone: nn.Module, pixel_values: Tensor) -> list[Tensor]:
        """C2..C5 of the images."""
        if self.backbone is None:
            features = backbone_features(backbone, pixel_values)
        else:
            features = channels_first(backbone, self.backbone(pixel_values))
        if "channels_last" in self.transformations:
            features = [feature.contiguous(memory_format=torch.channels_last) for feature in features]
        return features
