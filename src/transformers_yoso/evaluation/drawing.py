"""Predicted segments drawn over their photo."""

from collections.abc import Mapping

from PIL import Image

from ..visualization import draw_panoptic
from .prediction import Prediction


def draw_prediction(prediction: Prediction, id2label: Mapping[int, str], alpha: float = 0.5) -> Image.Image:
    """The photo with its predicted segments; `alpha` in [0, 1] is the opacity of the fill."""
    panoptic = prediction.panoptic
    photo = prediction.sample.image.permute(1, 2, 0).numpy()
    return draw_panoptic(photo, panoptic["segmentation"], panoptic["segments_info"], id2label, alpha=alpha)
