"""The whole benchmark: builds the variants, measures them at every size, checks that they agree, sums up."""

import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ..data import CocoPanopticDataset, PanopticSample
from ..models.image_inputs import read_image
from ..models.image_processing_yoso import YosoImageProcessor
from ..models.modeling_yoso import YosoForUniversalSegmentation
from .ablation import measure_ablation
from .agreement import measure_accuracy, strongest_query_agreement
from .case import Case, Size
from .environment import MEMORY_ALLOCATORS, describe_environment
from .inference_memory import measure_inference_memory
from .measure import Key, measure_size
from .peak_memory import MemoryNotMeasuredError
from .profiling import profile_forward
from .random_model import coco_config, coco_image_processor, fit_to_photo, random_model
from .registry import VariantName, build_variant
from .regression import ratios_to_reference
from .summary import Measurements, fastest_variant, own_variant, summarise
from .timing import summarise as summarise_times
from .variants import PlainVariant, Settings, UnavailableError, Variant

logger = logging.getLogger(__name__)

CALIBRATION_PHOTOS = 32
"""Photos of the training split that int8 is calibrated on."""


@dataclass(frozen=True)
class Options:
    """What to measure.

    Attributes:
        variants: what is timed.
        sizes: input heights and widths in pixels.
        target_size: height and width of the maps in pixels.
        image: photo.
        device: where to compute.
        precision: the reduced one, "bf16" or "fp16", that float32 is compared with.
        rounds: measurements of each timing.
        threads: of torch and onnxruntime.
        checkpoint: folder of a trained model for the accuracy section; `None` leaves that section out.
        dataset_dir: folder in COCO panoptic form for the accuracy section; without it the photo alone is compared.
        split: of the dataset.
    """

    variants: Sequence[VariantName]
    sizes: Sequence[Size]
    target_size: Size
    image: Path
    device: torch.device
    precision: str
    rounds: int
    threads: int
    checkpoint: Path | None = None
    dataset_dir: Path | None = None
    split: str = "val"


def run_benchmark(options: Options) -> Iterator[dict[str, Any]]:
    """Measures everything.

    Yields:
        What is known after each size, and once more with the accuracy, if that is measured; so a run that breaks off
        leaves something. It can be written as JSON: `environment`, `arguments`, `unavailable` (reason by variant),
        `sizes` (by size `timings`, `memory_mb`, `memory_not_measured`, `agreement`, `ablation`, `profile`), `summary`
        (lines by size), `ratios` (by size, for regression checks) and `accuracy` (`None` if not measured).
    """
    torch.set_num_threads(options.threads)
    environment = describe_environment(options.device)
    cases = [Case(options.image, size, options.target_size) for size in options.sizes]
    config = coco_config()
    image_processor = coco_image_processor(config)
    model = random_model(config)
    fit_to_photo(model, cases[0].preprocess(cases[0].original(), image_processor), image_processor.threshold)
    variants, unavailable = build_variants(options, model, image_processor, [options.image])

    runs: dict[str, Measurements] = {}
    sizes: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        image_processor.save_pretrained(folder)
        for case in cases:
            times = measure_size(case, variants, model.config, image_processor, options.device, options.rounds)
            memory_mb, memory_not_measured = measure_memory(options, Path(folder), case, variants)
            run = runs[case.name] = Measurements(times, memory_mb, options.precision)
            sizes[case.name] = {
                "timings": nested_summaries(times),
                "memory_mb": memory_mb,
                "memory_not_measured": memory_not_measured,
                **check_size(case, run, variants, model, image_processor, options),
            }
            result = {
                "environment": environment,
                "arguments": described_arguments(options),
                "unavailable": unavailable,
                "sizes": sizes,
                "summary": summarise(runs, on_gpu=options.device.type == "cuda"),
                "ratios": {size: ratios_to_reference(run.times) for size, run in runs.items()},
                "accuracy": None,
            }
            yield result
    if options.checkpoint is not None:
        del variants
        yield {**result, "accuracy": check_accuracy(options, options.checkpoint)}


def described_arguments(options: Options) -> dict[str, Any]:
    """The options that a reader of the report needs."""
    return {
        "model": "ResNet-50, COCO configuration (133 classes, 100 queries), random weights",
        "batch_size": 1,
        "photo": options.image.name,
        "map_size": "x".join(map(str, options.target_size)),
        "rounds": options.rounds,
        "reduced_precision": options.precision,
    }


def build_variants(
    options: Options,
    model: YosoForUniversalSegmentation,
    image_processor: YosoImageProcessor,
    calibration_images: Sequence[Path | Image.Image],
    names: Sequence[VariantName] | None = None,
) -> tuple[dict[str, Variant], dict[str, str]]:
    """The variants that can run here, and of the others the reason why not."""
    variants, unavailable = {}, {}
    for name in options.variants if names is None else names:
        logger.info("building %s", name)
        try:
            variants[str(name)] = build_variant(name, model, image_processor, options.device, calibration_images)
        except UnavailableError as error:
            logger.warning("%s is not measured: %s", name, error)
            unavailable[str(name)] = str(error)
    return variants, unavailable


def nested_summaries(times: Mapping[Key, list[float]]) -> dict[str, dict[str, Any]]:
    """By variant and part: median, quartiles, measurements."""
    nested: dict[str, dict[str, Any]] = {}
    for (variant, part), milliseconds in times.items():
        nested.setdefault(variant, {})[part] = summarise_times(milliseconds)
    return nested


def measure_memory(
    options: Options, checkpoint: Path, case: Case, variants: Mapping[str, Variant]
) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
    """Megabytes by variant and allocator, and the reason where there is no number."""
    memory_mb, not_measured = {}, {}
    for name, variant in variants.items():
        if not variant.is_panoptic:
            continue
        if variant.settings.compiled:
            not_measured[name] = "compiling takes more memory than the inference"
            continue
        logger.info("peak memory of %s at %s", name, case.name)
        try:
            memory_mb[name] = {
                allocator: measure_inference_memory(checkpoint, name, case, options.device, options.threads, malloc)
                for allocator, malloc in MEMORY_ALLOCATORS.items()
            }
        except MemoryNotMeasuredError as error:
            not_measured[name] = str(error)
    return memory_mb, not_measured


def check_size(
    case: Case,
    run: Measurements,
    variants: Mapping[str, Variant],
    model: YosoForUniversalSegmentation,
    image_processor: YosoImageProcessor,
    options: Options,
) -> dict[str, Any]:
    """What is not timed against each other: agreement, ablation and profile."""
    settings = Settings(options.device)
    reference = PlainVariant(model, image_processor, settings)
    panoptic = {name: variant for name, variant in variants.items() if variant.is_panoptic}
    pixel_values = case.preprocess(case.original(), image_processor)
    profiles = {
        name: [
            asdict(kernel) for kernel in profile_forward(variants[name], variants[name].prepare_input(pixel_values))
        ]
        for name in dict.fromkeys((own_variant(run), fastest_variant(run)))
        if name in variants
    }
    return {
        "agreement": strongest_query_agreement(reference, panoptic, case, image_processor),
        "profile": profiles,
        "ablation": measure_ablation(case, model, image_processor, settings, options.rounds),
    }


def check_accuracy(options: Options, checkpoint: Path) -> dict[str, Any]:
    """Agreement with plain float32 and panoptic quality of a trained checkpoint, in all variants of ours and int8."""
    model = YosoForUniversalSegmentation.from_pretrained(checkpoint, dtype=torch.float32).eval()
    image_processor = YosoImageProcessor.from_pretrained(checkpoint)
    calibration_images = calibration_photos(options)
    names = list(dict.fromkeys((*options.variants, VariantName("plain"), VariantName("onnx-int8"))))
    names = [name for name in names if name.is_panoptic]
    variants, unavailable = build_variants(options, model, image_processor, calibration_images, names)
    photos = options.image.name if options.dataset_dir is None else f"{options.dataset_dir.name} {options.split}"
    return {
        "checkpoint": checkpoint.name,
        "photos": photos,
        "variants": measure_accuracy(
            variants["plain"], variants, accuracy_photos(options), model.config, image_processor
        ),
        "unavailable": unavailable,
    }


def accuracy_photos(options: Options) -> Iterable[tuple[Tensor, PanopticSample | None]]:
    """Photos with ground truth, or the one photo without."""
    if options.dataset_dir is None:
        with Image.open(options.image) as photo:
            return [(read_image(photo), None)]
    return dataset_photos(CocoPanopticDataset.from_folder(options.dataset_dir, options.split))


def dataset_photos(dataset: CocoPanopticDataset) -> Iterator[tuple[Tensor, PanopticSample]]:
    """Photos of a dataset with their ground truth, one by one."""
    for index in range(len(dataset)):
        sample = dataset[index]
        yield sample.image, sample


def calibration_photos(options: Options) -> list[Image.Image]:
    """Photos of the training split, or the one photo."""
    if options.dataset_dir is None:
        with Image.open(options.image) as photo:
            return [photo.convert("RGB")]
    dataset = CocoPanopticDataset.from_folder(options.dataset_dir, "train")
    chosen = range(0, len(dataset), max(1, len(dataset) // CALIBRATION_PHOTOS))[:CALIBRATION_PHOTOS]
    return [Image.fromarray(dataset[index].image.permute(1, 2, 0).numpy()) for index in chosen]
