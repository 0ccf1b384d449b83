"""Makes Transformers' auto classes know YOSO. Transformers' own "yoso", a language model, stays as it is."""

from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageSegmentation,
    AutoModelForUniversalSegmentation,
)

from .models.configuration_yoso import YosoConfig
from .models.image_processing_pil_yoso import YosoImageProcessorPil
from .models.image_processing_yoso import YosoImageProcessor
from .models.modeling_yoso import YosoForUniversalSegmentation, YosoModel


def register_auto_classes() -> None:
    """Registers config, models and image processors. `exist_ok` as model mappings compare configs by class name."""
    AutoConfig.register(YosoConfig.model_type, YosoConfig, exist_ok=True)
    AutoModel.register(YosoConfig, YosoModel, exist_ok=True)
    AutoModelForUniversalSegmentation.register(YosoConfig, YosoForUniversalSegmentation, exist_ok=True)
    AutoModelForImageSegmentation.register(YosoConfig, YosoForUniversalSegmentation, exist_ok=True)
    AutoImageProcessor.register(
        YosoConfig,
        image_processor_classes={"torchvision": YosoImageProcessor, "pil": YosoImageProcessorPil},
        exist_ok=True,
    )
