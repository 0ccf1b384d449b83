"""Readers of panoptic datasets, augmentations on photo and id map together, and batches for the model."""

from .augmentation import TrainingAugmentation
from .categories import CategoryTable
from .collate import PanopticCollator
from .readers import (
    ANNOTATION_FORMATS,
    CocoInstancesDataset,
    CocoPanopticDataset,
    PanopticDataset,
    PanopticRecord,
    StreamedPanopticDataset,
    TablePanopticDataset,
    list_splits,
    open_dataset,
)
from .sample import VOID, PanopticSample
from .sample_stream import AugmentedDataset, SampleKey, SampleStream
from .streamed_batches import StreamedBatches

__all__ = [
    "ANNOTATION_FORMATS",
    "VOID",
    "AugmentedDataset",
    "CategoryTable",
    "CocoInstancesDataset",
    "CocoPanopticDataset",
    "PanopticCollator",
    "PanopticDataset",
    "PanopticRecord",
    "PanopticSample",
    "SampleKey",
    "SampleStream",
    "StreamedBatches",
    "StreamedPanopticDataset",
    "TablePanopticDataset",
    "TrainingAugmentation",
    "list_splits",
    "open_dataset",
]
