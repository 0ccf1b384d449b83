"""Average precision of instance masks, by pycocotools."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

import datasets
import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

# `evaluate.load` copies this file alone, so its imports are absolute.
from transformers_yoso.metrics.gathered_metric import REFERENCE_FEATURES, GatheredMetric, MetricInfo
from transformers_yoso.metrics.reference import PanopticReference, checked_labels, reference_arrays

_DESCRIPTION = """
Mask AP of COCO (mean over IoU 0.50:0.05:0.95, at most 100 instances an image) for the thing classes. The true instances
are the thing segments of the panoptic map; crowd regions are ignored as COCO does. Predictions of stuff are left out.
"""
_INPUTS = """
Args:
    predictions: per image `{"segmentation", "segments_info"}` of
        `post_process_instance_segmentation(..., threshold=0, return_binary_maps=True)`.
    references: per image `{"image_id", "segment_map", "class_labels", "is_crowd"}`, see `PanopticReference`.

Returns:
    `ap`, `ap50`, `ap75`; `ap_small`, `ap_medium`, `ap_large` (areas up to 32**2, 96**2 and above, in pixels);
    `per_class[label]`: `ap`, `ap50`, `ap75` of each thing class. All in [0, 1], None where no instance is true.
"""
_CITATION = """
@inproceedings{lin2014microsoft,
  title={Microsoft COCO: Common Objects in Context},
  author={Lin, Tsung-Yi and Maire, Michael and Belongie, Serge and Hays, James and Perona, Pietro and Ramanan, Deva and
          Doll{\\'a}r, Piotr and Zitnick, C. Lawrence},
  booktitle={ECCV},
  year={2014}
}
"""

_AREA_RANGES = {"ap_small": "small", "ap_medium": "medium", "ap_large": "large"}


class InstanceAveragePrecision(GatheredMetric):
    """
    COCO's mask AP; the record of an image is the run lengths of its instances.

    Args:
        num_labels: number of classes.
        stuff_label_ids: which of them are stuff; the others are scored.
        **kwargs: of `evaluate.Metric`.

    Raises:
        ValueError: a stuff label is outside `[0, num_labels)`.
    """

    def __init__(self, num_labels: int, stuff_label_ids: Sequence[int], **kwargs: Any):
        super().__init__(num_labels, **kwargs)
        stuff = set(checked_labels(stuff_label_ids, num_labels).tolist())
        self.thing_label_ids = [label for label in range(num_labels) if label not in stuff]

    def _info(self) -> MetricInfo:
        segment = {"label_id": datasets.Value("int32"), "score": datasets.Value("float32")}
        masks = datasets.List(datasets.List(datasets.List(datasets.Value("bool"))))
        prediction = {"segmentation": masks, "segments_info": datasets.List(segment)}
        return MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": prediction, "references": REFERENCE_FEATURES}),
        )

    def _reduce(self, prediction: Mapping[str, Any], reference: PanopticReference) -> dict[str, Any]:
        masks, segments = np.asarray(prediction["segmentation"]), prediction["segments_info"]
        if masks.ndim != 3 or len(masks) != len(segments):
            raise ValueError(
                f"Image {reference['image_id']}: got masks of shape {masks.shape} for {len(segments)} segments; AP needs "
                "one (height, width) mask each: post_process_instance_segmentation(..., return_binary_maps=True)."
            )
        checked_labels([segment["label_id"] for segment in segments], self.num_labels)
        segment_map, labels, is_crowd = reference_arrays(reference, self.num_labels, masks.shape[1:])
        true = [
            {"category_id": label, "iscrowd": int(is_crowd[k]), **encode_mask(segment_map == k)}
            for k, label in enumerate(labels.tolist())
            if label in self.thing_label_ids
        ]
        predicted = [
            {"category_id": segment["label_id"], "iscrowd": 0, "score": segment["score"], **encode_mask(mask)}
            for mask, segment in zip(masks, segments, strict=True)
            if segment["label_id"] in self.thing_label_ids
        ]
        return {"size": masks.shape[1:], "true": true, "predicted": predicted}

    def _summarize(self, records: dict[int | str, dict[str, Any]]) -> dict[str, Any]:
        images = list(records.values())
        sizes = [image["size"] for image in images]
        listed = [{"id": k, "height": height, "width": width} for k, (height, width) in enumerate(sizes)]
        true, predicted = (
            make_coco(
                listed,
                [{**annotation, "image_id": k} for k, image in enumerate(images) for annotation in image[kind]],
                self.thing_label_ids,
            )
            for kind in ("true", "predicted")
        )
        return score_instances(true, predicted)


def score_instances(true: COCO, predicted: COCO) -> dict[str, Any]:
    """
    Mask AP of COCO over the images and categories of `true`.

    Returns:
        What the module's description says, `per_class` by category id of `true`.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        evaluation = COCOeval(true, predicted, "segm")
        evaluation.evaluate()
        evaluation.accumulate()
    areas = evaluation.params.areaRngLbl
    precision = evaluation.eval["precision"][..., -1]  # (IoU thresholds, recalls, classes, area ranges)
    whole = precision[..., areas.index("all")]
    result: dict[str, Any] = _average_precisions(whole, evaluation.params.iouThrs)
    for name, area in _AREA_RANGES.items():
        result[name] = _mean_precision(precision[..., areas.index(area)])
    result["per_class"] = {
        category: _average_precisions(whole[..., k], evaluation.params.iouThrs)
        for k, category in enumerate(evaluation.params.catIds)
    }
    return result


def make_coco(
    images: Sequence[Mapping[str, Any]], annotations: Sequence[Mapping[str, Any]], category_ids: Sequence[int]
) -> COCO:
    """
    Instances in pycocotools' form.

    Args:
        images: each with `id`, `height` and `width`.
        annotations: each with `image_id`, `category_id`, `iscrowd`, `segmentation`, `area`, and predictions `score`.
        category_ids: of all categories.
    """
    coco = COCO()
    coco.dataset = {
        "images": list(images),
        "annotations": [{**annotation, "id": k} for k, annotation in enumerate(annotations, start=1)],
        "categories": [{"id": category} for category in category_ids],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def encode_mask(mask: np.ndarray) -> dict[str, Any]:
    """A mask `(height, width)` as an annotation's `segmentation` (compressed run lengths) and `area`."""
    run_lengths = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"segmentation": run_lengths, "area": int(coco_mask.area(run_lengths))}


def _average_precisions(precision: np.ndarray, iou_thresholds: np.ndarray) -> dict[str, float | None]:
    at = {name: np.isclose(iou_thresholds, value) for name, value in (("ap50", 0.5), ("ap75", 0.75))}
    return {
        "ap": _mean_precision(precision),
        **{name: _mean_precision(precision[chosen]) for name, chosen in at.items()},
    }


def _mean_precision(precision: np.ndarray) -> float | None:
    known = precision[precision > -1]  # -1: no true instance
    return float(known.mean()) if known.size else None
