"""Outputs of the YOSO models."""

from dataclasses import dataclass

from torch import Tensor
from transformers.utils import ModelOutput


@dataclass
class YosoModelOutput(ModelOutput):
    """
    Output of [`YosoModel`]. N queries, d hidden dim, T stages, (h, w) a quarter of the padded input's size.

    Args:
        last_hidden_state (`Tensor` of shape `(B, N, d)`): Kernels after the last stage.
        feature_map (`Tensor` of shape `(B, d, h, w)`, *optional*): S, the output of the feature pyramid aggregator;
            `None` from a fused model, which does not make it.
        kernels (T + 1 tensors of shape `(B, N, d)`): Kernels of each stage, the proposal kernels first.
        masks_queries_logits (T + 1 tensors of shape `(B, N, h, w)`): Mask logits of each stage, or the last of them
            alone.
        image_sizes (`Tensor` of shape `(B, 2)`, *optional*): Height and width in pixels of each image inside of the
            padded input, from `pixel_mask`; `None` if nothing says that there is padding.
        hidden_states (T + 1 tensors, *optional*): `kernels`, if `output_hidden_states`.
        attentions (T tensors of shape `(B, heads, N, N)`, *optional*): Weights of the post-attentions.
    """

    last_hidden_state: Tensor | None = None
    feature_map: Tensor | None = None
    kernels: tuple[Tensor, ...] | None = None
    masks_queries_logits: tuple[Tensor, ...] | None = None
    image_sizes: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass
class YosoForUniversalSegmentationOutput(ModelOutput):
    """
    Output of [`YosoForUniversalSegmentation`], to be handed to `YosoImageProcessor.post_process_*_segmentation`.

    Args:
        loss (`Tensor`, *optional*): Sum of `loss_dict`, if labels were given.
        class_queries_logits (`Tensor` of shape `(B, N, C + 1)`): Class logits divided by the temperature; index C is
            no-object.
        masks_queries_logits (`Tensor` of shape `(B, N, h, w)`): Mask logits of the last stage.
        auxiliary_logits (`list[dict[str, Tensor]]`, *optional*): `class_queries_logits` (but for stage 0) and
            `masks_queries_logits` of the earlier stages, if asked for or in training.
        image_sizes (`Tensor` of shape `(B, 2)`, *optional*): See [`YosoModelOutput`].
        loss_dict (`dict[str, Tensor]`, *optional*): Weighted losses `stage{i}_loss_{cross_entropy,mask,dice}`.
        last_hidden_state, feature_map, hidden_states, attentions: See [`YosoModelOutput`].
    """

    loss: Tensor | None = None
    class_queries_logits: Tensor | None = None
    masks_queries_logits: Tensor | None = None
    auxiliary_logits: list[dict[str, Tensor]] | None = None
    image_sizes: Tensor | None = None
    loss_dict: dict[str, Tensor] | None = None
    last_hidden_state: Tensor | None = None
    feature_map: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


__all__ = ["YosoForUniversalSegmentationOutput", "YosoModelOutput"]
