"""Augmentations on photo and segment map together (torchvision v2)."""

from .transforms import TrainingAugmentation

__all__ = ["TrainingAugmentation"]
