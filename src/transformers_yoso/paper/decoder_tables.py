"""Tables 7-10: parameters, operations and speed over the decoder's sizes: blocks N, taps t, stages T, proposals n."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..benchmark.measure import POST_PROCESSING
from ..benchmark.random_model import blob_logits, coco_config, coco_image_processor, random_model
from ..benchmark.timing import summarise, time_interleaved
from ..models.configuration_yoso import YosoConfig
from ..models.inference_decoder import InferenceDecoder, location_features
from ..models.modeling_outputs_yoso import YosoForUniversalSegmentationOutput
from ..models.modeling_yoso import ClassBranch, YosoForUniversalSegmentation
from ..models.separable_dynamic_decoder import SeparableDynamicDecoder
from .model_parts import Size, count_decoder, num_parameters
from .table import Table

CANVAS: Size = (512, 800)
TARGET_SIZE: Size = (480, 800)
PICTURE = "tables_7_to_10.png"


@dataclass(frozen=True)
class Sweep:
    """One table.

    Attributes:
        number: of the table in the paper.
        title: what is varied.
        field: of the config.
        symbol: the paper's.
        values: of the field.
    """

    number: int
    title: str
    field: str
    symbol: str
    values: tuple[int, ...]


SWEEPS = (
    Sweep(7, "attention blocks", "num_attention_blocks", "N", (1, 2, 3, 4)),
    Sweep(8, "kernel size", "dynamic_kernel_size", "t", (1, 3, 5, 7)),
    Sweep(9, "stages", "num_stages", "T", (1, 2, 3, 4)),
    Sweep(10, "proposal kernels", "num_queries", "n", (50, 100, 150, 200)),
)

Changes = tuple[tuple[str, int], ...]
"""Fields of the config with their values."""

Key = tuple[str, Any]


class DecoderCase:
    """A decoder with random weights.

    Args:
        changes: of the released COCO configuration.
    """

    def __init__(self, changes: Changes) -> None:
        self.config = YosoConfig(**{**coco_config().to_dict(), **dict(changes)})
        self.config._attn_implementation = "sdpa"
        self.decoder = SeparableDynamicDecoder(self.config).eval().requires_grad_(False)
        branches = [ClassBranch(self.config) for _ in range(self.config.num_stages)]
        self.class_branches = nn.ModuleList(branches).eval().requires_grad_(False)

    def inference(self, location_conv: nn.Conv2d, aggregated: Tensor) -> Callable[[], Tensor]:
        """The inference form of the decoder and the class branch of its last stage."""
        inference = InferenceDecoder(self.decoder, location_conv)

        def run() -> Tensor:
            decoded = inference(self.decoder, location_features(aggregated), every_stage=False)
            return self.class_branches[-1](decoded.kernels[-1])

        return run

    def post_processing(self, canvas: Size) -> Callable[[], Any]:
        """Post-processing of as many queries as the decoder has, of which 20 are kept."""
        image_processor = coco_image_processor(self.config)
        grid = (canvas[0] // 4, canvas[1] // 4)
        class_logits, mask_logits = blob_logits(self.config.num_queries, self.config.num_labels, grid)
        outputs = YosoForUniversalSegmentationOutput(
            class_queries_logits=class_logits, masks_queries_logits=mask_logits
        )
        return lambda: image_processor.post_process_panoptic_segmentation(
            outputs, target_sizes=[TARGET_SIZE], resized_sizes=[canvas]
        )


def changes_of(sweep: Sweep, value: int) -> Changes:
    """What a value changes in the released configuration: nothing, if it is the released one."""
    return () if value == getattr(coco_config(), sweep.field) else ((sweep.field, value),)


@torch.no_grad()
def decoder_tables(rounds: int, canvas: Size = CANVAS) -> list[Table]:
    """Measures backbone and neck once, and the decoder and post-processing of every value, all interleaved."""
    model = random_model(coco_config()).fuse()
    cases = {changes: DecoderCase(changes) for changes in {changes_of(s, value) for s in SWEEPS for value in s.values}}
    times = time_interleaved(
        tasks_of(model, cases, canvas), torch.device("cpu"), rounds, warmup_rounds=1, description="decoder"
    )
    milliseconds = {key: summarise(measured)["median_ms"] for key, measured in times.items()}
    shared = num_parameters(model.model.backbone, model.model.feature_pyramid_aggregator)
    return [sweep_table(sweep, cases, milliseconds, shared, canvas) for sweep in SWEEPS]


def tasks_of(
    model: YosoForUniversalSegmentation, cases: Mapping[Changes, DecoderCase], canvas: Size
) -> dict[Key, Callable[[], Any]]:
    """What is timed: backbone and neck of the fused model, and decoder and post-processing of each case."""
    network, form = model.model, model.model.inference_form
    pixel_values = torch.randn(1, 3, *canvas).contiguous(memory_format=torch.channels_last)
    features = form.features(network.backbone, pixel_values)
    aggregated = form.neck(list(features))
    location_conv = network.feature_pyramid_aggregator.location_conv
    tasks: dict[Key, Callable[[], Any]] = {
        ("backbone", None): lambda: form.features(network.backbone, pixel_values),
        ("neck", None): lambda: form.neck(list(features)),
    }
    for changes, case in cases.items():
        tasks["decoder", changes] = case.inference(location_conv, aggregated)
        tasks[POST_PROCESSING, case.config.num_queries] = case.post_processing(canvas)
    return tasks


def sweep_table(
    sweep: Sweep,
    cases: Mapping[Changes, DecoderCase],
    milliseconds: Mapping[Key, float],
    shared_parameters: int,
    canvas: Size,
) -> Table:
    """One of Tables 7-10; `shared_parameters` are those of backbone and neck."""
    rows = []
    for value in sweep.values:
        changes = changes_of(sweep, value)
        case = cases[changes]
        shape = (1, case.config.hidden_dim, canvas[0] // 4, canvas[1] // 4)
        parameters = num_parameters(case.decoder, case.class_branches)
        decoder = milliseconds["decoder", changes]
        others = milliseconds["backbone", None] + milliseconds["neck", None]
        total = others + decoder + milliseconds[POST_PROCESSING, case.config.num_queries]
        rows.append(
            {
                sweep.symbol: str(value) if changes else f"{value} (released)",
                "parameters, M": (shared_parameters + parameters) / 1e6,
                "of the decoder, M": parameters / 1e6,
                "decoder, G": count_decoder(case.decoder, case.class_branches[-1], shape) / 1e9,
                "decoder, ms": decoder,
                "FPS": 1000 / total,
            }
        )
    notes = [
        f"Released COCO configuration but for `{sweep.field}`, {canvas[0]}x{canvas[1]}, batch 1, float32, inference "
        "form. G: 10^9 multiply-adds of the plain decoder. FPS: of backbone and neck, measured once for all values, "
        "decoder and post-processing of 20 kept queries.",
        "The values are ours. The paper's PQ and FPS of each value are not repeated here for want of a source that "
        "could be checked.",
    ]
    title = f"Table {sweep.number}: {sweep.title} {sweep.symbol}"
    pictures = [PICTURE] if sweep is SWEEPS[-1] else []
    return Table(f"table_{sweep.number}", title, rows, notes, pictures)
