"""Predicted and true segments drawn over their photo."""

from collections.abc import Mapping

import numpy as np
from PIL import Image

from ..data import PanopticSample
from ..visualization import draw_panoptic
from .prediction import Prediction


def draw_prediction(prediction: Prediction, id2label: Mapping[int, str], alpha: float = 0.5) -> Image.Image:
    """The photo with its predicted segments; `alpha` in [0, 1] is the opacity of the fill."""
    panoptic = prediction.panoptic
    photo = _photo(prediction.sample)
    return draw_panoptic(photo, panoptic["segmentation"], panoptic["segments_info"], id2label, alpha=alpha)


def draw_truth(sample: PanopticSample, id2label: Mapping[int, str], alpha: float = 0.5) -> Image.Image:
    """The photo with its true segments; `alpha` in [0, 1] is the opacity of the fill."""
    segments = [{"id": k + 1, "label_id": label} for k, label in enumerate(sample.class_labels.tolist())]
    return draw_panoptic(_photo(sample), sample.segment_map + 1, segments, id2label, alpha=alpha)


def _photo(sample: PanopticSample) -> np.ndarray:
    return sample.image.permute(1, 2, 0).numpy()
