"""How far the variants agree with plain float32: strongest queries, panoptic maps, and panoptic quality."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from ..data import PanopticSample
from ..metrics import PanopticQuality, reference_of
from ..models.configuration_yoso import YosoConfig
from ..models.image_processing_yoso import YosoImageProcessor
from .case import Case
from .variants import Variant

NO_CLASS = -1


@torch.inference_mode()
def strongest_query_agreement(
    reference: Variant, variants: Mapping[str, Variant], case: Case, image_processor: YosoImageProcessor
) -> dict[str, float]:
    """Share of cells of the mask grid whose strongest query is that of `reference`, by variant.

    It says of random weights what the panoptic map says of trained ones.
    """
    pixel_values = case.preprocess(case.original(), image_processor)

    def winners(variant: Variant) -> Tensor:
        return variant.forward(variant.prepare_input(pixel_values)).masks_queries_logits.argmax(1).cpu()

    expected = winners(reference)
    return {name: equal_share(winners(variant), expected) for name, variant in variants.items()}


def equal_share(values: Tensor, expected: Tensor) -> float:
    """Share of equal elements, in [0, 1]."""
    return (values == expected).double().mean().item()


def class_map(result: dict[str, Any]) -> Tensor:
    """Panoptic result -> map of label ids, `NO_CLASS` where no segment is."""
    table = torch.full((1 + max((info["id"] for info in result["segments_info"]), default=0),), NO_CLASS)
    for info in result["segments_info"]:
        table[info["id"]] = info["label_id"]
    return table[result["segmentation"].long().cpu()]


class Agreement:
    """Accumulates photo by photo how one variant compares with the reference and with the ground truth.

    Args:
        config: gives the classes.
    """

    def __init__(self, config: YosoConfig) -> None:
        self.equal_segments: list[float] = []
        self.equal_classes: list[float] = []
        self.quality = PanopticQuality(config.num_labels, config.stuff_label_ids)

    def add(self, result: dict[str, Any], expected: dict[str, Any], sample: PanopticSample | None) -> None:
        """One photo: the variant's result, the reference's, and the ground truth if there is one."""
        self.equal_segments.append(equal_share(result["segmentation"].cpu(), expected["segmentation"].cpu()))
        self.equal_classes.append(equal_share(class_map(result), class_map(expected)))
        if sample is not None:
            self.quality.add(prediction=result, reference=reference_of(sample))

    def compute(self, has_truth: bool) -> dict[str, float | None]:
        """`equal_segments` and `equal_classes`, mean shares of equal pixels, and `pq` of all classes, in [0, 1]."""
        return {
            "equal_segments": sum(self.equal_segments) / len(self.equal_segments),
            "equal_classes": sum(self.equal_classes) / len(self.equal_classes),
            "pq": self.quality.compute()["all"]["pq"] if has_truth else None,
        }


@torch.inference_mode()
def measure_accuracy(
    reference: Variant,
    variants: Mapping[str, Variant],
    photos: Iterable[tuple[Tensor, PanopticSample | None]],
    config: YosoConfig,
    image_processor: YosoImageProcessor,
) -> dict[str, dict[str, float | None]]:
    """
    Runs variants photo by photo, at the size that the image processor gives.

    Args:
        reference: plain float32.
        variants: what to compare.
        photos: at least one uint8 photo `(3, height, width)` with its ground truth, if that is known.
        config, image_processor: of the checkpoint.

    Returns:
        By variant what [`Agreement.compute`] gives. Segment ids are numbered by query: one segment more shifts those
        behind it, so `equal_segments` may be far below `equal_classes` where little has changed.
    """
    agreements = {name: Agreement(config) for name in variants}
    has_truth = True
    for photo, sample in tqdm(photos, desc="accuracy"):
        has_truth = has_truth and sample is not None
        expected = segment(reference, photo, image_processor)
        for name, variant in variants.items():
            agreements[name].add(segment(variant, photo, image_processor), expected, sample)
    return {name: agreement.compute(has_truth) for name, agreement in agreements.items()}


def segment(variant: Variant, photo: Tensor, image_processor: YosoImageProcessor) -> dict[str, Any]:
    """Panoptic result of one photo at its own size."""
    inputs = image_processor(images=photo, return_tensors="pt")
    valid = inputs["pixel_mask"][0].bool()
    image_size = (int(valid.any(1).sum()), int(valid.any(0).sum()))
    target_size = (photo.shape[-2], photo.shape[-1])
    return variant.end_to_end(variant.prepare_input(inputs["pixel_values"]), image_size, target_size)
