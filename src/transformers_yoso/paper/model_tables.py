"""The four released models at the paper's six test sizes: parameters, operations, time; Figure 4."""

from collections.abc import Mapping, Sequence

from transformers.image_utils import SizeDict

from ..benchmark.timing import summarise
from ..conversion.convert import released_config
from ..conversion.dataset_specs import DATASET_SPECS
from ..models.canvas import SIZE_DIVISOR
from ..models.image_resizing import get_padded_size, get_resized_image_size
from ..models.modeling_yoso import YosoForUniversalSegmentation
from .model_parts import PARTS, Size, count_parameters, count_parts, time_parts
from .published import RESULTS, PublishedResult
from .table import Table

PHOTO_SIZES: Mapping[str, Size] = {
    "coco": (480, 640),
    "cityscapes": (1024, 2048),
    "ade20k": (512, 683),
    "mapillary": (2448, 3264),
}
"""Height and width in pixels of a usual photo of each data set."""


def sizes_of(result: PublishedResult) -> tuple[Size, Size, Size]:
    """Photo, resized photo and canvas, by the rule of the image processor."""
    photo = PHOTO_SIZES[result.dataset]
    edges = SizeDict(shortest_edge=result.shortest_edge, longest_edge=result.longest_edge)
    resized = get_resized_image_size(photo, edges)
    return photo, resized, get_padded_size([resized], SIZE_DIVISOR)


def described(size: Size) -> str:
    """For example "512x704"."""
    return "x".join(map(str, size))


def cost_table(results: Sequence[PublishedResult] = RESULTS) -> Table:
    """Parameters and multiply-adds by part."""
    rows = []
    for result in results:
        photo, _, canvas = sizes_of(result)
        model = YosoForUniversalSegmentation(released_config(DATASET_SPECS[result.dataset]))
        model = model.eval().requires_grad_(False)
        parameters, operations = count_parameters(model), count_parts(model, canvas)
        rows.append(
            {
                "model, test size": result.name,
                "photo": described(photo),
                "canvas": described(canvas),
                **{f"{part}, M parameters": number / 1e6 for part, number in parameters.items()},
                "all, M parameters": sum(parameters.values()) / 1e6,
                **{f"{part}, G": number / 1e9 for part, number in operations.items()},
                "all, G": sum(operations.values()) / 1e9,
            }
        )
    notes = [
        "G: 10^9 multiply-adds of convolutions and matrix products in the plain form, batch 1, of the class branches "
        "the last only. Height x width in pixels; the canvas is the resized photo, padded to multiples of 32.",
    ]
    return Table("model_costs", "Parameters and operations of the four models", rows, notes)


def time_table(rounds: int, results: Sequence[PublishedResult] = RESULTS) -> Table:
    """Measures every model at its test sizes in the inference form."""
    rows = []
    for result in results:
        photo, resized, canvas = sizes_of(result)
        times = time_parts(result.dataset, canvas, resized, photo, rounds)
        milliseconds = {part: summarise(times[part])["median_ms"] for part in PARTS}
        total = sum(milliseconds.values())
        rows.append(
            {
                "model, test size": result.name,
                "canvas": described(canvas),
                **{f"{part}, ms": time for part, time in milliseconds.items()},
                "all, ms": total,
                "FPS": 1000 / total,
                "paper, FPS": result.frames_per_second,
                "paper's GPU": result.gpu,
                "paper, PQ": result.panoptic_quality,
            }
        )
    notes = [
        "Ours: `model.fuse()`, float32, batch 1, random weights, post-processing of 20 kept queries up to the map of "
        "the photo's size; no decoding, no pre-processing. The paper's FPS and PQ are those of the released model "
        "zoo; its hardware is another, so only the order of the rows compares. Figure 4 shows YOSO alone, as the "
        "other methods' points could not be checked.",
    ]
    return Table("model_times", "Speed of the four models", rows, notes, pictures=["model_times.png", "figure_4.png"])
