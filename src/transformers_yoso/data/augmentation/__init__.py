"""Augmentations on photo and segment map together (torchvision v2)."""

from .pipeline import TrainingAugmentation

__all__ = ["TrainingAugmentation"]
