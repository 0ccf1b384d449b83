"""`pipeline("image-segmentation")` with the checkpoint's own thresholds and stuff labels."""

import os
from typing import Any

from transformers import ImageSegmentationPipeline, PreTrainedConfig
from transformers.image_utils import load_image
from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING
from transformers.pipelines import PIPELINE_REGISTRY

from .image_inputs import list_images, read_image

TASK = "image-segmentation"


class YosoImageSegmentationPipeline(ImageSegmentationPipeline):
    """
    Transformers' pipeline always passes thresholds of its own to the post-processing. This one leaves those that the
    caller did not give to the image processor, which holds the checkpoint's.

    A model in evaluation mode computes in its inference form (`fuse`), which gives the same results faster; the model's
    weights stay as they are, and `pipe.model.unfuse()` makes it trainable again.

    Transformers has one pipeline class a task, so models of other kinds come here too; they get Transformers' class.
    """

    def __new__(cls, model: Any, *args: Any, **kwargs: Any) -> ImageSegmentationPipeline:
        if model.config.model_type != "yoso_panoptic":
            return ImageSegmentationPipeline(model, *args, **kwargs)
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.model.training and not self.model.is_fused and self.model.can_be_fused:
            self.model.fuse()

    def check_model_type(self, supported_models: Any) -> None:
        """Transformers looks the class up in its own tables, which know no models from elsewhere."""

    def preprocess(self, image: Any, subtask: str | None = None, timeout: float | None = None) -> dict[str, Any]:
        """As in Transformers, but for images with 16 bits, which Transformers' `load_image` would clip at 255."""
        if isinstance(image, str) and not os.path.isfile(image):
            image = load_image(image, timeout=timeout)
        pixels = read_image(list_images(image)[0])
        inputs = self.image_processor(images=[pixels], return_tensors="pt").to(self.dtype)
        inputs["target_size"] = [tuple(pixels.shape[-2:])]
        return inputs

    def postprocess(
        self,
        model_outputs: Any,
        subtask: str | None = None,
        threshold: float | None = None,
        mask_threshold: float | None = None,
        overlap_mask_area_threshold: float | None = None,
    ) -> list[dict[str, Any]]:
        """As in Transformers; `None` is the image processor's saved value."""
        return super().postprocess(model_outputs, subtask, threshold, mask_threshold, overlap_mask_area_threshold)


def register_pipeline(config_class: type[PreTrainedConfig]) -> None:
    """Makes `pipeline("image-segmentation")` use the class above, and no tokenizer, for models of this config.

    Configs are matched by class name, and Transformers has a language model of the same name with a tokenizer.
    """
    PIPELINE_REGISTRY.supported_tasks[TASK]["impl"] = YosoImageSegmentationPipeline
    TOKENIZER_MAPPING.register(config_class, None, exist_ok=True)
