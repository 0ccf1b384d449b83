"""The measured model, ResNet-50 in its COCO configuration with random weights, and logits like those of a photo."""

import torch
from torch import Tensor, nn

from ..conversion.dataset_specs import get_dataset_spec
from ..models.configuration_yoso import YosoConfig
from ..models.image_processing_yoso import YosoImageProcessor
from ..models.modeling_yoso import YosoForUniversalSegmentation

KEPT_QUERIES = 20
"""Queries above the object threshold in the measured case, out of 100."""

CLASS_CONTRAST = 8.0
"""Random class logits are spread by this factor, so that one class gets nearly all of the probability."""


def coco_config() -> YosoConfig:
    """The released COCO configuration: 133 classes, 100 queries, two stages."""
    spec = get_dataset_spec("coco")
    return YosoConfig(
        id2label=spec.id2label,
        stuff_label_ids=spec.stuff_label_ids,
        num_queries=spec.num_queries,
        num_class_layers=spec.num_class_layers,
        num_mask_layers=spec.num_mask_layers,
        temperature=spec.temperature,
    )


def coco_image_processor(config: YosoConfig) -> YosoImageProcessor:
    """The image processor with the released COCO thresholds and the stuff classes of `config`."""
    spec = get_dataset_spec("coco")
    return YosoImageProcessor(
        threshold=spec.object_threshold,
        overlap_mask_area_threshold=spec.overlap_threshold,
        label_ids_to_fuse=list(config.stuff_label_ids),
    )


def random_model(config: YosoConfig, seed: int = 0) -> YosoForUniversalSegmentation:
    """A model in evaluation mode whose batch norms, unlike fresh ones, are not the identity."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = YosoForUniversalSegmentation(config).eval()
    for module in model.modules():
        if hasattr(module, "running_var"):
            randomise_norm(module, generator)
    return model


@torch.no_grad()
def randomise_norm(norm: nn.Module, generator: torch.Generator) -> None:
    """Weights of 0.3 +- 0.03, so that residual sums stay in range, and statistics around those of a unit normal."""
    for tensor, mean, std in (
        (norm.weight, 0.3, 0.03),
        (norm.bias, 0.0, 0.1),
        (norm.running_mean, 0.0, 0.1),
        (norm.running_var, 1.0, 0.05),
    ):
        tensor.copy_(mean + std * torch.randn(tensor.shape, generator=generator))


@torch.no_grad()
def fit_to_photo(
    model: YosoForUniversalSegmentation, pixel_values: Tensor, threshold: float, kept: int = KEPT_QUERIES
) -> None:
    """Changes biases, in place, so that a photo gives what a trained model would give in kind, if not in meaning.

    The feature map is centred, so that masks cover parts of the photo and not all or nothing of it; classes are told
    apart surely; the no-object bias lets `kept` queries pass the object threshold.

    Args:
        model (`YosoForUniversalSegmentation`): In its plain form, float32.
        pixel_values (`Tensor` of shape `(1, 3, H, W)`): The photo.
        threshold (`float`): Object threshold, in [0, 1].
        kept (`int`): Queries to pass it.
    """
    location_conv = model.model.feature_pyramid_aggregator.location_conv
    location_conv.bias -= model.model(pixel_values).feature_map.mean((0, 2, 3))
    branch = model.class_branches[-1]
    branch.classifier.weight *= CLASS_CONTRAST
    logits = model(pixel_values).class_queries_logits[0]
    best = logits[:, :-1].max(-1).values
    others = (logits[:, :-1] - best[:, None]).exp().sum(-1)
    # p > threshold if and only if the no-object logit lies below this.
    bound = best + (1 / threshold - others).clamp(min=1e-6).log()
    room = (bound - logits[:, -1]).sort(descending=True).values
    kept = min(kept, len(room) - 1)
    branch.classifier.bias[-1] += room[kept - 1 : kept + 1].mean() * branch.temperature


def blob_logits(
    num_queries: int, num_labels: int, grid: tuple[int, int], kept: int = KEPT_QUERIES, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Logits of an image with `kept` sure queries and one round blob a query.

    Returns:
        Class logits `(1, N, C + 1)` and mask logits `(1, N, *grid)`, float32.
    """
    generator = torch.Generator().manual_seed(seed)
    class_logits = torch.randn(1, num_queries, num_labels + 1, generator=generator)
    class_logits[..., -1] += 12
    for query in torch.randperm(num_queries, generator=generator)[:kept].tolist():
        class_logits[0, query, torch.randint(num_labels, (1,), generator=generator)] += 25

    rows = torch.linspace(0, 1, grid[0])[:, None]
    columns = torch.linspace(0, 1, grid[1])
    centres = torch.rand(num_queries, 2, 1, 1, generator=generator)
    radius = 0.05 + 0.2 * torch.rand(num_queries, 1, 1, generator=generator)
    distance = ((rows - centres[:, 0]) ** 2 + (columns - centres[:, 1]) ** 2).sqrt()
    return class_logits, (8 * (1 - distance / radius)).clamp(min=-12)[None]
