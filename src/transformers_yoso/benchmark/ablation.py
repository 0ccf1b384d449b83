"""What each re-parameterisation of the inference form gives: all of them but one, against all of them."""

from functools import partial

from ..models.image_processing_yoso import YosoImageProcessor
from ..models.inference_form import TRANSFORMATIONS
from ..models.modeling_yoso import YosoForUniversalSegmentation
from .case import Case
from .timing import median_ratio, time_interleaved
from .variants import FusedVariant, Settings

ALL = "all"


def measure_ablation(
    case: Case,
    model: YosoForUniversalSegmentation,
    image_processor: YosoImageProcessor,
    settings: Settings,
    rounds: int,
) -> dict[str, dict[str, str | float]]:
    """Leave-one-out of `model.fuse()`, interleaved.

    Returns:
        By transformation `what` it does and `ratio`, the forward without it over the forward with all.
    """
    pixel_values = case.preprocess(case.original(), image_processor)
    variants = {ALL: FusedVariant(model, image_processor, settings)}
    variants |= {name: FusedVariant(model, image_processor, settings, without=name) for name in TRANSFORMATIONS}
    tasks = {name: partial(variant.forward, variant.prepare_input(pixel_values)) for name, variant in variants.items()}
    times = time_interleaved(tasks, settings.device, rounds, description=f"ablation {case.name}")
    return {
        name: {"what": what, "ratio": median_ratio(times[name], times[ALL])} for name, what in TRANSFORMATIONS.items()
    }
