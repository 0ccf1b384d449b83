"""Parameters, operations and time of a model, part by part."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from ..benchmark.measure import POST_PROCESSING, STAGES, stage_tasks
from ..benchmark.random_model import blob_logits, random_model
from ..benchmark.timing import time_interleaved
from ..benchmark.variants import FusedVariant, Settings
from ..conversion.convert import released_config, released_image_processor
from ..conversion.dataset_specs import DATASET_SPECS
from ..models.backbone import backbone_features
from ..models.modeling_yoso import ClassBranch, YosoForUniversalSegmentation
from ..models.separable_dynamic_decoder import SeparableDynamicDecoder
from .operations import count_multiply_adds

Size = tuple[int, int]
"""Height and width in pixels."""

PARTS = (*STAGES, POST_PROCESSING)


def count_parameters(model: YosoForUniversalSegmentation) -> dict[str, int]:
    """Parameters by part; the class branches of all stages belong to the decoder."""
    network = model.model
    return {
        "backbone": num_parameters(network.backbone),
        "neck": num_parameters(network.feature_pyramid_aggregator),
        "decoder": num_parameters(network.decoder, model.class_branches),
    }


def num_parameters(*modules: nn.Module) -> int:
    """Of all modules together."""
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def count_parts(model: YosoForUniversalSegmentation, size: Size) -> dict[str, int]:
    """Multiply-adds of the plain form by part, for one image; of the class branches only the last, as in inference.

    Args:
        model: in evaluation mode, its parameters frozen; it does not compute, only shapes go through it.
        size: of the canvas, multiples of 32.
    """
    network = model.model
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        pixel_values = torch.empty(1, 3, *size)
        features = backbone_features(network.backbone, pixel_values)
        feature_map = network.feature_pyramid_aggregator(features)
        return {
            "backbone": count_multiply_adds(backbone_features, network.backbone, pixel_values),
            "neck": count_multiply_adds(network.feature_pyramid_aggregator, features),
            "decoder": count_decoder(network.decoder, model.class_branches[-1], tuple(feature_map.shape)),
        }


def count_decoder(decoder: SeparableDynamicDecoder, class_branch: ClassBranch, shape: tuple[int, ...]) -> int:
    """Multiply-adds of a frozen decoder and the class branch of its last stage, on a feature map S of `shape`."""

    def decode(feature_map: Tensor) -> Tensor:
        return class_branch(decoder(feature_map).kernels[-1])

    with FakeTensorMode(allow_non_fake_inputs=True):
        return count_multiply_adds(decode, torch.empty(shape))


@torch.inference_mode()
def time_parts(dataset: str, canvas: Size, image_size: Size, target_size: Size, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of backbone, neck, decoder and post-processing of a released model in its inference form.

    Args:
        dataset: a name among `DATASET_SPECS`; the weights are random.
        canvas: padded input, multiples of 32.
        image_size: of the resized photo inside of it.
        target_size: of the panoptic map.
        rounds: measurements of each part, at least 1.
    """
    spec = DATASET_SPECS[dataset]
    config = released_config(spec)
    variant = FusedVariant(random_model(config), released_image_processor(spec), Settings(torch.device("cpu")))
    pixel_values = torch.randn(1, 3, *canvas, generator=torch.Generator().manual_seed(0))
    tasks: dict[str, Callable[[], Any]] = dict(stage_tasks(variant, pixel_values))
    logits = blob_logits(config.num_queries, config.num_labels, (canvas[0] // 4, canvas[1] // 4))
    tasks[POST_PROCESSING] = lambda: variant.post_process(*logits, image_size, target_size)
    return time_interleaved(
        tasks, torch.device("cpu"), rounds, warmup_rounds=1, description=f"{dataset} {canvas[0]}x{canvas[1]}"
    )
