"""YOSO, real-time panoptic segmentation (You Only Segment Once, CVPR 2023, arXiv 2303.14651)."""

import math
from itertools import chain

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, TimmBackbone
from transformers import initialization as init
from transformers.utils.generic import can_return_tuple

from .backbone import backbone_features, build_backbone
from .canvas import (
    MASK_STRIDE,
    OUTSIDE_LOGIT,
    group_by_canvas,
    image_sizes_from_mask,
    lay_on_canvas,
    mask_from_image_sizes,
    pad_to_divisor,
)
from .configuration_yoso import YosoConfig
from .feature_pyramid_aggregator import FeaturePyramidAggregator
from .fusing import FusingMixin, fuse_loaded_weights
from .label_checks import check_labels
from .modeling_outputs_yoso import YosoForUniversalSegmentationOutput, YosoModelOutput
from .modulated_deformable_conv import ModulatedDeformableConv2d
from .multi_head_attention import MultiHeadAttention
from .reparameterization import ReparameterizationMixin
from .separable_dynamic_decoder import HiddenLayers, SeparableDynamicDecoder
from .set_criterion import SetCriterion

# Fills up the rows of `class_labels` given as one tensor; the value with which Transformers' `Trainer` pads labels.
PADDING_LABEL = -100

# Focal-loss prior: at the start every class has this probability (before the temperature).
CLASS_PRIOR = 0.01


class ClassBranch(nn.Module):
    """Kernels -> class logits, divided by the temperature."""

    def __init__(self, config: YosoConfig) -> None:
        super().__init__()
        self.temperature = config.temperature
        self.layers = HiddenLayers(config.hidden_dim, config.num_class_layers)
        self.classifier = nn.Linear(config.hidden_dim, config.num_labels + 1)

    def forward(self, kernels: Tensor) -> Tensor:
        """`(B, N, d)` -> `(B, N, C + 1)`."""
        return self.classifier(self.layers(kernels)) / self.temperature


class YosoPreTrainedModel(FusingMixin, ReparameterizationMixin, PreTrainedModel):
    """Weight initialisation and what Transformers needs to know."""

    config: YosoConfig
    base_model_prefix = "model"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    supports_gradient_checkpointing = True
    _no_split_modules = ("DecoderStage", "DeformableUpsampling")
    _supports_sdpa = True

    def get_input_embeddings(self) -> None:
        """`None`: there are no token embeddings, which FSDP2 under Accelerate asks for."""

    def _set_gradient_checkpointing(self, enable: bool = True, *args: object, **kwargs: object) -> None:
        """As in Transformers, for the decoder's stages; timm's backbones, where most memory goes, have their own.

        Batch norms of the backbone that are trained see a batch twice and so update their statistics twice.
        """
        super()._set_gradient_checkpointing(enable, *args, **kwargs)
        for module in self.modules():
            if isinstance(module, TimmBackbone) and hasattr(module._backbone, "set_grad_checkpointing"):
                module._backbone.set_grad_checkpointing(enable)
                # Before timm 1.0.31 a checkpointed ResNet stage overwrites, in place, what the backward pass needs.
                for layer in module.modules():
                    if enable and getattr(layer, "inplace", False):
                        layer.inplace = False

    def _initialize_weights(self, module: nn.Module, *args: object) -> None:
        """As in Transformers, which would skip modules without parameters of their own in a model from outside of it.

        Loaded parameters are safe: `transformers.initialization` leaves them alone one by one.
        """
        super()._initialize_weights(module)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Neck: Xavier for all that has more than one dimension. Decoder: truncated normal, zero biases."""
        if isinstance(module, FeaturePyramidAggregator):
            self._init_neck(module)
        elif isinstance(module, MultiHeadAttention):
            # As one (3d, d) projection under Xavier, torch's initialisation of multi-head attention.
            bound = math.sqrt(6 / (4 * self.config.hidden_dim))
            for projection in (module.q_proj, module.k_proj, module.v_proj):
                init.uniform_(projection.weight, -bound, bound)
        elif isinstance(module, ClassBranch):
            init.constant_(module.classifier.bias, -math.log((1 - CLASS_PRIOR) / CLASS_PRIOR))
        elif isinstance(module, SeparableDynamicDecoder):
            init_conv_defaults(module.proposal_kernels)
        elif isinstance(module, nn.Linear):
            init.trunc_normal_(module.weight, std=self.config.init_std)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)

    @staticmethod
    def _init_neck(neck: FeaturePyramidAggregator) -> None:
        for module in neck.modules():
            if isinstance(module, nn.Conv2d):
                init_conv_defaults(module)
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | ModulatedDeformableConv2d):
                init.xavier_uniform_(module.weight)
            if isinstance(module, nn.BatchNorm2d):
                init.ones_(module.weight)
                init.zeros_(module.bias)
                init.zeros_(module.running_mean)
                init.ones_(module.running_var)
                init.zeros_(module.num_batches_tracked)
        for upsampling in neck.pyramid.upsamplings:
            init.zeros_(upsampling.deformable_conv.offset_conv.bias)
        init.zeros_(neck.aggregation.bias)


def init_conv_defaults(conv: nn.Conv2d) -> None:
    """torch's defaults for a convolution."""
    init.kaiming_uniform_(conv.weight, a=math.sqrt(5))
    if conv.bias is not None:
        bound = 1 / math.sqrt(conv.weight[0].numel())
        init.uniform_(conv.bias, -bound, bound)


class YosoModel(YosoPreTrainedModel):
    """Backbone, feature pyramid aggregator and separable dynamic decoder: features, kernels and masks of each stage."""

    _keys_to_ignore_on_load_unexpected = (r"class_branches\.",)

    def __init__(self, config: YosoConfig) -> None:
        super().__init__(config)
        config.validate_architecture()  # fields may have been set one by one, as by `from_pretrained`
        self.backbone = build_backbone(config.backbone_config)
        channels = list(self.backbone.channels)
        self.feature_pyramid_aggregator = FeaturePyramidAggregator(
            in_channels=channels,
            pyramid_channels=list(config.pyramid_channels or [channel // 2 for channel in channels]),
            aggregation_dim=config.aggregation_dim,
            hidden_dim=config.hidden_dim,
            aggregator_type=config.aggregator_type,
            fusion_kernel_size=config.fusion_kernel_size,
        )
        self.decoder = SeparableDynamicDecoder(config)
        self.inference_form = None
        self.register_load_state_dict_post_hook(fuse_loaded_weights)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values: Tensor,
        pixel_mask: Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        every_stage: bool = True,
        **kwargs: object,
    ) -> YosoModelOutput:
        """
        Args:
            pixel_values (`Tensor` of shape `(B, 3, H, W)`): Normalised image, padded right and bottom. A size that is
                no multiple of 32 is padded further with zeros.
            pixel_mask (`Tensor` of shape `(B, H, W)`, *optional*): 1 for image, 0 for padding. In evaluation, and
                unless compiled, each image is computed on its own canvas, so that its result does not depend on the
                padding. In training and under `torch.compile` the whole batch is one canvas, as in the released code.
            output_hidden_states, output_attentions (`bool`, *optional*): Defaults: those of the config.
            every_stage (`bool`): Return the mask logits of every stage, not of the last alone, which takes less memory.

        Raises:
            ValueError: if the shapes do not fit.
        """
        if pixel_values.dim() != 4 or pixel_values.shape[1] != 3 or 0 in pixel_values.shape:
            raise ValueError(
                "`pixel_values` must have shape (batch, 3, height, width) and no side of 0, "
                f"got {tuple(pixel_values.shape)}."
            )
        if pixel_mask is not None and pixel_mask.shape != (pixel_values.shape[0], *pixel_values.shape[-2:]):
            raise ValueError(
                f"`pixel_mask` {tuple(pixel_mask.shape)} must have the batch size, height and width of "
                f"`pixel_values` {tuple(pixel_values.shape)}."
            )
        image_sizes = None if pixel_mask is None else image_sizes_from_mask(pixel_mask)
        padded = pad_to_divisor(pixel_values.to(self.dtype))
        if image_sizes is None and padded.shape != pixel_values.shape:
            image_sizes = torch.tensor([pixel_values.shape[-2:]] * len(pixel_values), device=pixel_values.device)

        groups = None
        if pixel_mask is not None and not self.training and not torch.compiler.is_compiling():
            if not torch.equal(mask_from_image_sizes(image_sizes, pixel_mask.shape[-2:]), pixel_mask.bool()):
                raise ValueError(
                    "`pixel_mask` must be a rectangle of ones from the top left; pad right and bottom only."
                )
            groups = group_by_canvas(image_sizes, tuple(padded.shape[-2:]))
        if groups is None:
            outputs = self._forward_canvas(padded, every_stage)
        else:
            outputs = self._forward_groups(padded, groups, every_stage)

        outputs.image_sizes = image_sizes
        if output_hidden_states if output_hidden_states is not None else self.config.output_hidden_states:
            outputs.hidden_states = outputs.kernels
        if not (output_attentions if output_attentions is not None else self.config.output_attentions):
            outputs.attentions = None
        return outputs

    def _forward_canvas(self, pixel_values: Tensor, every_stage: bool) -> YosoModelOutput:
        if self.inference_form is not None:
            feature_map, decoded = self.inference_form(self.backbone, self.decoder, pixel_values, every_stage)
        else:
            feature_map = self.feature_pyramid_aggregator(backbone_features(self.backbone, pixel_values))
            decoded = self.decoder(feature_map, every_stage)
        return YosoModelOutput(
            last_hidden_state=decoded.kernels[-1],
            feature_map=feature_map,
            kernels=decoded.kernels,
            masks_queries_logits=decoded.mask_logits,
            attentions=decoded.attentions,
        )

    def _forward_groups(
        self, pixel_values: Tensor, groups: dict[tuple[int, int], list[int]], every_stage: bool
    ) -> YosoModelOutput:
        size = tuple(length // MASK_STRIDE for length in pixel_values.shape[-2:])
        order = torch.tensor([*chain.from_iterable(groups.values())], device=pixel_values.device).argsort()
        parts = [
            self._forward_canvas(pixel_values[indices, :, : canvas[0], : canvas[1]], every_stage)
            for canvas, indices in groups.items()
        ]

        def merge(tensors: tuple[Tensor, ...]) -> Tensor:
            return torch.cat(tensors)[order]

        def merge_maps(maps: tuple[Tensor, ...], fill: float) -> Tensor:
            return merge(tuple(lay_on_canvas(tensor, size, fill) for tensor in maps))

        kernels = tuple(map(merge, zip(*(part.kernels for part in parts), strict=True)))
        mask_logits = zip(*(part.masks_queries_logits for part in parts), strict=True)
        attentions = zip(*(part.attentions for part in parts), strict=True)
        feature_maps = tuple(part.feature_map for part in parts)
        return YosoModelOutput(
            last_hidden_state=kernels[-1],
            feature_map=None if feature_maps[0] is None else merge_maps(feature_maps, 0.0),
            kernels=kernels,
            masks_queries_logits=tuple(merge_maps(maps, OUTSIDE_LOGIT) for maps in mask_logits),
            attentions=tuple(None if weights[0] is None else merge(weights) for weights in attentions),
        )


class YosoForUniversalSegmentation(YosoPreTrainedModel):
    """YOSO with class branches and the set-prediction loss, for panoptic, instance and semantic segmentation."""

    # Transformers' `Trainer` would count a batch's `labels` as the items; the loss counts its target masks itself.
    accepts_loss_kwargs = False

    def __init__(self, config: YosoConfig) -> None:
        super().__init__(config)
        self.model = YosoModel(config)
        self.class_branches = nn.ModuleList(ClassBranch(config) for _ in range(config.num_stages))
        self.criterion = SetCriterion.from_config(config)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values: Tensor,
        mask_labels: list[Tensor] | Tensor | None = None,
        class_labels: list[Tensor] | Tensor | None = None,
        pixel_mask: Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        output_auxiliary_logits: bool | None = None,
        num_items_in_batch: Tensor | float | None = None,
        point_seeds: list[int] | None = None,
        **kwargs: object,
    ) -> YosoForUniversalSegmentationOutput:
        """
        Args:
            pixel_values (`Tensor` of shape `(B, 3, H, W)`), pixel_mask (`Tensor` of shape `(B, H, W)`, *optional*):
                See [`YosoModel.forward`].
            mask_labels (`list[Tensor]`, *optional*): For each image binary masks `(n, H, W)`, or a compact integer id
                map `(H, W)` where k in [0, n) is segment k and any other value is void. Maps may come as one tensor
                `(B, H, W)`.
            class_labels (`list[Tensor]`, *optional*): For each image the label ids `(n,)` of its segments. May come as
                one tensor `(B, n)`, filled up with -100.
            output_hidden_states, output_attentions, output_auxiliary_logits (`bool`, *optional*): What to return
                besides.
            num_items_in_batch (`float`, *optional*), point_seeds (`list[int]`, *optional*): What the mask losses are
                divided by, and seeds of each image's loss points; see [`SetCriterion.forward`].

        Raises:
            ValueError: if the inputs and labels do not fit to each other or to the config.
        """
        if isinstance(class_labels, Tensor) and class_labels.dim() == 2:
            class_labels = [labels[labels != PADDING_LABEL] for labels in class_labels]
        has_labels = mask_labels is not None and class_labels is not None
        if (mask_labels is None) != (class_labels is None):
            raise ValueError("Give both `mask_labels` and `class_labels`, or none of them.")
        if has_labels:
            check_labels(mask_labels, class_labels, pixel_values.shape, self.config.num_labels)
            if point_seeds is not None and len(point_seeds) != len(pixel_values):
                raise ValueError(f"{len(pixel_values)} images need as many `point_seeds`, got {len(point_seeds)}.")
        every_stage = self.training or has_labels or bool(output_auxiliary_logits)
        outputs = self.model(
            pixel_values,
            pixel_mask=pixel_mask,
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
            every_stage=every_stage,
            return_dict=True,
        )

        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.is_fused):
            class_logits = self._class_logits(outputs.kernels, every_stage)
        loss_dict = None
        if has_labels:
            loss_dict = self.criterion(
                mask_logits=outputs.masks_queries_logits,
                class_logits=class_logits,
                mask_labels=[masks.to(self.device) for masks in mask_labels],
                class_labels=[labels.to(self.device, torch.long) for labels in class_labels],
                canvas_size=tuple(MASK_STRIDE * length for length in outputs.masks_queries_logits[-1].shape[-2:]),
                num_items_in_batch=num_items_in_batch,
                point_seeds=point_seeds,
            )
        return YosoForUniversalSegmentationOutput(
            loss=None if loss_dict is None else sum(loss_dict.values()),
            class_queries_logits=class_logits[-1],
            masks_queries_logits=outputs.masks_queries_logits[-1],
            auxiliary_logits=self._auxiliary_logits(outputs, class_logits) if every_stage else None,
            image_sizes=outputs.image_sizes,
            loss_dict=loss_dict,
            last_hidden_state=outputs.last_hidden_state,
            feature_map=outputs.feature_map,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def _class_logits(self, kernels: tuple[Tensor, ...], every_stage: bool) -> tuple[Tensor | None, ...]:
        """Class logits of each stage, `None` for the proposal kernels and for stages that nobody reads."""
        num_stages = len(kernels) - 1
        first_stage = 0 if every_stage else num_stages - 1
        branches = zip(self.class_branches[first_stage:num_stages], kernels[first_stage + 1 :], strict=True)
        return (None,) * (first_stage + 1) + tuple(branch(refined) for branch, refined in branches)

    @staticmethod
    def _auxiliary_logits(
        outputs: YosoModelOutput, class_logits: tuple[Tensor | None, ...]
    ) -> list[dict[str, Tensor]]:
        auxiliary = []
        for classes, masks in zip(class_logits[:-1], outputs.masks_queries_logits[:-1], strict=True):
            stage = {"masks_queries_logits": masks}
            if classes is not None:
                stage["class_queries_logits"] = classes
            auxiliary.append(stage)
        return auxiliary


__all__ = ["YosoForUniversalSegmentation", "YosoModel", "YosoPreTrainedModel"]
