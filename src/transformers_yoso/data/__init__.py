"""Readers of panoptic datasets, augmentations on photo and id map together, and batches for the model."""

from .coco_panoptic import CategoryTable, CocoPanopticDataset
from .collate import PanopticCollator
from .sample import VOID, PanopticSample
from .sample_stream import AugmentedDataset, SampleKey, SampleStream
from .transforms import TrainingAugmentation

__all__ = [
    "VOID",
    "AugmentedDataset",
    "CategoryTable",
    "CocoPanopticDataset",
    "PanopticCollator",
    "PanopticSample",
    "SampleKey",
    "SampleStream",
    "TrainingAugmentation",
]
