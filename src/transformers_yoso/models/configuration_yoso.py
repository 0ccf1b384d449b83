"""Configuration of YOSO (You Only Segment Once, CVPR 2023, arXiv 2303.14651)."""

import os
from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig, TimmBackboneConfig

from .pipeline_yoso import register_pipeline
from .remote_code import AUTO_MAP, save_remote_code

NUM_FEATURE_LEVELS = 4
AGGREGATOR_TYPES = ("cfa", "ifa")
ATTENTION_TYPES = ("sdca", "mhca", "dca", "pdca", "ddca")
LABEL_FIELDS = ("num_labels", "id2label", "label2id", "stuff_label_ids")


@strict
class YosoConfig(PreTrainedConfig):
    r"""
    Configuration of a [`YosoModel`] / [`YosoForUniversalSegmentation`]. The defaults are the paper's ResNet-50 model
    for COCO, but for the labels: give `id2label` (or `num_labels`) and `stuff_label_ids`.

    Args:
        backbone_config (`PreTrainedConfig` or `dict`, *optional*):
            Backbone with four feature levels at strides 4, 8, 16 and 32; any timm model by
            `TimmBackboneConfig(backbone=NAME, out_indices=[...])`. Without `out_indices` the last four levels are
            taken. Default: timm's `resnet50` with frozen batch norm.
        pyramid_channels (`list[int]`, *optional*):
            Channels of the pyramid levels P2..P5. Default: half of the backbone's channels (paper's rule).
        aggregation_dim (`int`, defaults to 128): Channels of the aggregated map (paper section 3.2).
        aggregator_type (`str`, defaults to `"cfa"`): Aggregation of the pyramid levels (Table 5): `"cfa"`,
            convolution-first, or `"ifa"`, interpolation-first. A trained model goes from one to the other by
            `to_convolution_first` and `to_interpolation_first`.
        fusion_kernel_size (`int`, defaults to 1): Side of the convolution of `"ifa"`, odd.
        hidden_dim (`int`, defaults to 256): Channels d of the feature map S and of the kernels.
        num_queries (`int`, defaults to 100): Number of proposal kernels N (Table 10).
        num_stages (`int`, defaults to 2): Decoder stages T (Table 9).
        num_inference_stages (`int`, *optional*): Stages that run in evaluation, 1 to `num_stages`: early exit of a
            trained model, with the masks and the class branch of that stage. Default: all. Training runs them all.
        attention_type (`str`, defaults to `"sdca"`): Attention of kernels over pooled values (Table 6): `"sdca"`,
            separable dynamic convolution; `"mhca"`, multi-head cross-attention; `"dca"`, full dynamic convolution;
            `"pdca"` or `"ddca"`, its pointwise or depthwise part alone.
        num_attention_blocks (`int`, defaults to 2): Blocks of that attention a stage (Table 7).
        dynamic_kernel_size (`int`, defaults to 3): Taps t of the dynamic convolution along d, odd (Table 8).
        num_attention_heads (`int`, defaults to 8): Heads of the post-attention and of `"mhca"`.
        feedforward_dim (`int`, defaults to 2048): Width of the post-attention's feed-forward network.
        num_class_layers, num_mask_layers (`int`, defaults to 1): Hidden layers of the class and mask branches.
        temperature (`float`, defaults to 0.05): Class logits are divided by it.
        class_weight, mask_weight, dice_weight (`float`, defaults to 2, 5, 5): Weights of the three losses, also of
            the matching costs.
        no_object_weight (`float`, defaults to 0.1): Weight of the no-object class in the cross entropy.
        train_num_points (`int`, defaults to 12544): Points a mask for matching and mask losses.
        oversample_ratio (`float`, defaults to 3.0), importance_sample_ratio (`float`, defaults to 0.75):
            Uncertainty sampling of the loss points (PointRend).
        init_std (`float`, defaults to 0.02): Standard deviation of the decoder's linear weights at the start.
        stuff_label_ids (`list[int]`, *optional*): Labels whose masks are merged into one segment an image.
        label_colors (`dict[str, list[int]]`, *optional*): The data set's own colours, RGB 0-255 by label name, for
            drawing; labels without one get a colour by their id.

    Raises:
        ValueError: for a combination that cannot work; the message names the field.
    """

    model_type = "yoso_panoptic"
    sub_configs: ClassVar[dict] = {"backbone_config": AutoConfig}
    attribute_map: ClassVar[dict] = {"hidden_size": "hidden_dim", "num_hidden_layers": "num_stages"}
    # Transformers' `Trainer` keeps the other outputs of all photos: what post-processing reads.
    keys_to_ignore_at_inference: ClassVar[list] = ["auxiliary_logits", "loss_dict", "last_hidden_state", "feature_map"]

    backbone_config: dict | PreTrainedConfig | None = None
    pyramid_channels: list[int] | tuple[int, ...] | None = None
    aggregation_dim: int = 128
    aggregator_type: str = "cfa"
    fusion_kernel_size: int = 1
    hidden_dim: int = 256
    num_queries: int = 100
    num_stages: int = 2
    num_inference_stages: int | None = None
    attention_type: str = "sdca"
    num_attention_blocks: int = 2
    dynamic_kernel_size: int = 3
    num_attention_heads: int = 8
    feedforward_dim: int = 2048
    num_class_layers: int = 1
    num_mask_layers: int = 1
    temperature: float | int = 0.05
    class_weight: float | int = 2.0
    mask_weight: float | int = 5.0
    dice_weight: float | int = 5.0
    no_object_weight: float | int = 0.1
    train_num_points: int = 12544
    oversample_ratio: float | int = 3.0
    importance_sample_ratio: float | int = 0.75
    init_std: float | int = 0.02
    stuff_label_ids: list[int] | tuple[int, ...] = ()
    label_colors: dict[str, list[int]] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        if "backbone" in kwargs:
            raise ValueError(
                f"Give `backbone_config=TimmBackboneConfig(backbone={kwargs['backbone']!r})` instead of `backbone`."
            )
        if self.backbone_config is None:
            self.backbone_config = TimmBackboneConfig(
                backbone="resnet50", out_indices=[1, 2, 3, 4], freeze_batch_norm_2d=True
            )
        elif isinstance(self.backbone_config, dict):
            model_type = self.backbone_config.get("model_type", TimmBackboneConfig.model_type)
            if model_type not in CONFIG_MAPPING:
                raise ValueError(f"`backbone_config` has the unknown `model_type` {model_type!r}.")
            self.backbone_config = CONFIG_MAPPING[model_type].from_dict(self.backbone_config)
        super().__post_init__(**kwargs)
        if getattr(self.backbone_config, "out_indices", None) == [-1]:
            self.backbone_config.out_indices = list(range(-NUM_FEATURE_LEVELS, 0))
        if self.label2id is None and self.id2label is not None:
            self.label2id = {name: label for label, name in self.id2label.items()}
        # Here as well as by `@strict`, whose errors are no `ValueError`.
        self.validate_architecture()

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> "YosoConfig | tuple[YosoConfig, dict[str, Any]]":
        """As in Transformers; new labels among the arguments replace all that was saved of the old ones."""
        labels = {name: kwargs.pop(name) for name in LABEL_FIELDS if name in kwargs}
        num_saved = len(config_dict.get("id2label") or range(2))  # two labels are Transformers' default, not saved
        if "id2label" in labels or labels.get("num_labels", num_saved) != num_saved:
            config_dict = {name: value for name, value in config_dict.items() if name not in LABEL_FIELDS}
        return super().from_dict(config_dict | labels, **kwargs)

    def to_dict(self) -> dict[str, Any]:
        """As in Transformers, with the map that `trust_remote_code` needs."""
        return super().to_dict() | {"auto_map": dict(AUTO_MAP)}

    def save_pretrained(self, save_directory: str | os.PathLike, *args: Any, **kwargs: Any) -> None:
        """As in Transformers; the folder also gets the code for `trust_remote_code=True`, before any upload."""
        super().save_pretrained(save_directory, *args, **kwargs)
        save_remote_code(save_directory)

    def validate_architecture(self) -> None:
        """Cross-field checks, run by `@strict` at construction."""
        super().validate_architecture()
        for name in (
            *("aggregation_dim", "hidden_dim", "num_queries", "num_stages", "num_attention_blocks"),
            *("num_attention_heads", "feedforward_dim", "train_num_points", "temperature", "init_std"),
        ):
            if not getattr(self, name) > 0:
                raise ValueError(f"`{name}` must be greater than 0, got {getattr(self, name)}.")
        for name in (
            *("num_class_layers", "num_mask_layers"),
            *("class_weight", "mask_weight", "dice_weight", "no_object_weight"),
        ):
            if not getattr(self, name) >= 0:
                raise ValueError(f"`{name}` must not be negative, got {getattr(self, name)}.")
        if self.class_weight == self.mask_weight == self.dice_weight == 0:
            raise ValueError("`class_weight`, `mask_weight` and `dice_weight` must not all be 0.")
        for name in ("dynamic_kernel_size", "fusion_kernel_size"):
            if getattr(self, name) < 1 or getattr(self, name) % 2 == 0:
                raise ValueError(f"`{name}` must be odd and positive, got {getattr(self, name)}.")
        if self.hidden_dim % self.num_attention_heads:
            raise ValueError(
                f"`hidden_dim` ({self.hidden_dim}) must be divisible by `num_attention_heads` "
                f"({self.num_attention_heads})."
            )
        if not self.oversample_ratio >= 1:
            raise ValueError(f"`oversample_ratio` must be at least 1, got {self.oversample_ratio}.")
        if not 0 <= self.importance_sample_ratio <= 1:
            raise ValueError(f"`importance_sample_ratio` must lie in [0, 1], got {self.importance_sample_ratio}.")
        self._validate_variants()
        self._validate_levels()
        self._validate_labels()

    def _validate_variants(self) -> None:
        for name, known in (("aggregator_type", AGGREGATOR_TYPES), ("attention_type", ATTENTION_TYPES)):
            if getattr(self, name) not in known:
                raise ValueError(f"`{name}` must be one of {', '.join(known)}, got {getattr(self, name)!r}.")
        if self.aggregator_type == "cfa" and self.fusion_kernel_size != 1:
            raise ValueError(
                f"`fusion_kernel_size` {self.fusion_kernel_size} is for `aggregator_type='ifa'`; convolution-first "
                "aggregation is 1x1."
            )
        check_num_inference_stages(self.num_inference_stages, self.num_stages)

    def _validate_levels(self) -> None:
        if self.backbone_config.model_type == TimmBackboneConfig.model_type and not self.backbone_config.backbone:
            raise ValueError("`backbone_config.backbone` must be the name of a timm model, e.g. 'resnet50'.")
        if getattr(self.backbone_config, "num_channels", 3) != 3:
            raise ValueError(f"`backbone_config.num_channels` must be 3, got {self.backbone_config.num_channels}.")
        out_indices = getattr(self.backbone_config, "out_indices", None)
        if out_indices is not None and len(out_indices) != NUM_FEATURE_LEVELS:
            raise ValueError(
                f"`backbone_config.out_indices` must name {NUM_FEATURE_LEVELS} feature levels (strides 4, 8, 16, 32), "
                f"got {list(out_indices)}. For most timm models [-4, -3, -2, -1] is right."
            )
        if self.pyramid_channels is not None and (
            len(self.pyramid_channels) != NUM_FEATURE_LEVELS or min(self.pyramid_channels) < 1
        ):
            raise ValueError(
                f"`pyramid_channels` must be {NUM_FEATURE_LEVELS} positive numbers for P2..P5, "
                f"got {list(self.pyramid_channels)}."
            )

    def _validate_labels(self) -> None:
        num_labels = self.num_labels or 0
        if num_labels < 1:
            raise ValueError("`id2label` must name at least one label (or give `num_labels`).")
        if sorted(self.id2label) != list(range(num_labels)):
            raise ValueError(f"`id2label` must name the labels 0..{num_labels - 1}, got {sorted(self.id2label)}.")
        unknown = [label for label in self.stuff_label_ids if not 0 <= label < num_labels]
        if unknown:
            raise ValueError(
                f"`stuff_label_ids` {unknown} are outside of the {num_labels} labels 0..{num_labels - 1}."
            )
        for name, color in (self.label_colors or {}).items():
            if len(color) != 3 or not all(0 <= value <= 255 for value in color):
                raise ValueError(f"`label_colors` must be red, green and blue in 0..255, got {color} for {name!r}.")


def check_num_inference_stages(num_inference_stages: int | None, num_stages: int) -> None:
    """
    Raises:
        ValueError: if a decoder of `num_stages` stages cannot stop after `num_inference_stages`.
    """
    if num_inference_stages is not None and not 1 <= num_inference_stages <= num_stages:
        raise ValueError(
            f"`num_inference_stages` must be 1 to `num_stages` ({num_stages}), got {num_inference_stages}."
        )


register_pipeline(YosoConfig)

__all__ = ["YosoConfig"]
