"""Extra peak memory of a variant's full inference, each in a fresh process: `python -m` this module measures one."""

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from ..models.image_processing_yoso import YosoImageProcessor
from ..models.modeling_yoso import YosoForUniversalSegmentation
from .case import Case, parse_size
from .peak_memory import MemoryNotMeasuredError, extra_peak_mb, run_in_fresh_process
from .registry import VariantName, build_variant
from .variants import UnavailableError

WARM_UP_SIZE = (64, 64)
"""A first inference this small loads the libraries' code, which is no memory of the model's."""


def measure_inference_memory(
    checkpoint: Path,
    variant: str,
    case: Case,
    device: torch.device,
    threads: int,
    malloc: Mapping[str, str] | None = None,
) -> float:
    """Megabytes above the loaded model, from pixel values to the panoptic map, in a fresh process.

    Args:
        checkpoint: folder of the plain model and its image processor.
        variant: name of a variant that has `end_to_end`.
        case: photo and sizes.
        device: where to compute.
        threads: of torch.
        malloc: settings of glibc's allocator; its defaults if not given.

    Raises:
        MemoryNotMeasuredError: with the reason.
    """
    arguments = {
        "--checkpoint": checkpoint,
        "--variant": variant,
        "--image": case.image,
        "--size": case.name,
        "--target_size": "x".join(map(str, case.target_size)),
        "--device": device.type,
        "--threads": threads,
    }
    words = [str(word) for pair in arguments.items() for word in pair]
    return run_in_fresh_process(__name__, words, malloc)["extra_peak_mb"]


def measure_here(arguments: argparse.Namespace) -> float:
    """The measurement itself."""
    device = torch.device(arguments.device)
    torch.set_num_threads(arguments.threads)
    model = YosoForUniversalSegmentation.from_pretrained(arguments.checkpoint).eval()
    image_processor = YosoImageProcessor.from_pretrained(arguments.checkpoint)
    try:
        variant = build_variant(VariantName.parse(arguments.variant), model, image_processor, device)
    except UnavailableError as error:
        raise MemoryNotMeasuredError(str(error)) from error
    del model
    case = Case(arguments.image, parse_size(arguments.size), parse_size(arguments.target_size))
    warm_up = Case(arguments.image, WARM_UP_SIZE, WARM_UP_SIZE)

    def task_of(case: Case) -> Callable[[], Any]:
        inputs = variant.prepare_input(case.preprocess(case.original(), image_processor))
        return lambda: variant.end_to_end(inputs, case.input_size, case.target_size)

    with torch.inference_mode():
        task_of(warm_up)()
        return extra_peak_mb(task_of(case), device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--variant", required=True)
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--size", required=True)
    parser.add_argument("--target_size", required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    print(json.dumps({"extra_peak_mb": measure_here(parser.parse_args())}))


if __name__ == "__main__":
    main()
