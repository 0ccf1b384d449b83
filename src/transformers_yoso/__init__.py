"""YOSO, real-time panoptic segmentation (CVPR 2023), for Hugging Face Transformers.

Importing the package makes Transformers' auto classes and `pipeline("image-segmentation")` know the model.
"""

from .inference import YosoPredictor
from .models.configuration_yoso import YosoConfig
from .models.image_processing_pil_yoso import YosoImageProcessorPil
from .models.image_processing_yoso import YosoImageProcessor
from .models.modeling_outputs_yoso import YosoForUniversalSegmentationOutput, YosoModelOutput
from .models.modeling_yoso import YosoForUniversalSegmentation, YosoModel, YosoPreTrainedModel
from .models.pipeline_yoso import YosoImageSegmentationPipeline
from .registration import register_auto_classes

register_auto_classes()

__version__ = "0.1.0"

__all__ = [
    "YosoConfig",
    "YosoForUniversalSegmentation",
    "YosoForUniversalSegmentationOutput",
    "YosoImageProcessor",
    "YosoImageProcessorPil",
    "YosoImageSegmentationPipeline",
    "YosoModel",
    "YosoModelOutput",
    "YosoPreTrainedModel",
    "YosoPredictor",
]
