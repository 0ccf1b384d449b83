"""Evaluation metrics of panoptic segmentation."""

from .panoptic_quality import PanopticQuality

__all__ = ["PanopticQuality"]
