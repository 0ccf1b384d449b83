"""Small models, labels and photos for the tests of the model."""

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import normalize, pil_to_tensor
from transformers import TimmBackboneConfig, set_seed

from transformers_yoso import YosoConfig, YosoForUniversalSegmentation

TINY = {
    "pyramid_channels": [8, 16, 16, 24],
    "aggregation_dim": 16,
    "hidden_dim": 32,
    "num_queries": 10,
    "num_attention_heads": 4,
    "feedforward_dim": 64,
    "train_num_points": 64,
}


def tiny_config(backbone: str = "test_resnet", **changes: object) -> YosoConfig:
    """A config of 0.7 M parameters; `changes` replace its fields."""
    labels = {} if "id2label" in changes else {"num_labels": 6}
    return YosoConfig(**{"backbone_config": TimmBackboneConfig(backbone=backbone), **TINY, **labels, **changes})


def tiny_model(**changes: object) -> YosoForUniversalSegmentation:
    """The model of [`tiny_config`] with weights of seed 0, in evaluation mode."""
    set_seed(0)
    return YosoForUniversalSegmentation(tiny_config(**changes)).eval()


def random_labels(num_segments: list[int], size: tuple[int, int], num_labels: int = 6) -> dict[str, list[Tensor]]:
    """Labels of images with so many segments each, as compact id maps of coarse patches with some void."""
    maps = [
        torch.randint(-1, max(count, 1), (1, 1, 6, 5)).float() if count else torch.full((1, 1, 1, 1), -1.0)
        for count in num_segments
    ]
    return {
        "mask_labels": [torch.nn.functional.interpolate(ids, size)[0, 0].int() for ids in maps],
        "class_labels": [torch.randint(num_labels, (count,)) for count in num_segments],
    }


def photo_tensor(photo: Image.Image, size: tuple[int, int]) -> Tensor:
    """`(3, height, width)`, normalised."""
    pixels = pil_to_tensor(photo.convert("RGB").resize(size[::-1])) / 255
    return normalize(pixels, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
