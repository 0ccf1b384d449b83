"""YOSO, real-time panoptic segmentation (CVPR 2023), for Hugging Face Transformers."""

from .models.configuration_yoso import YosoConfig
from .models.modeling_yoso import YosoForUniversalSegmentation, YosoModel, YosoPreTrainedModel
