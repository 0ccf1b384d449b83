"""Evaluation metrics as `evaluate` modules: panoptic quality, instance AP and mean IoU."""

from .gathered_metric import GatheredMetric
from .instance_average_precision import InstanceAveragePrecision
from .mean_iou import MeanIoU
from .panoptic_quality import PanopticQuality
from .reference import PanopticReference, reference_of
from .segment_overlap import SegmentOverlap

__all__ = [
    "GatheredMetric",
    "InstanceAveragePrecision",
    "MeanIoU",
    "PanopticQuality",
    "PanopticReference",
    "SegmentOverlap",
    "reference_of",
]
