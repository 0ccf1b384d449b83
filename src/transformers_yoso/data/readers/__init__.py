"""Readers: from files and tables to panoptic samples."""

from .base import PanopticDataset
from .coco_instances import CocoInstancesDataset
from .coco_panoptic import CocoPanopticDataset
from .open_dataset import ANNOTATION_FORMATS, list_splits, open_dataset
from .records import PanopticRecord
from .table import StreamedPanopticDataset, TablePanopticDataset

__all__ = [
    "ANNOTATION_FORMATS",
    "CocoInstancesDataset",
    "CocoPanopticDataset",
    "PanopticDataset",
    "PanopticRecord",
    "StreamedPanopticDataset",
    "TablePanopticDataset",
    "list_splits",
    "open_dataset",
]
