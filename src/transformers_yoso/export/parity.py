"""The check that runs at every export: does onnxruntime give what torch gives?"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ..models.modeling_yoso import YosoForUniversalSegmentation
from .network_graph import LOGIT_NAMES
from .onnx_predict import OnnxPredictor

CHECKED_SHAPES = ((1, 192, 256), (2, 150, 215), (1, 97, 320))
"""Batch size, height and width in pixels; not all whole strides."""

MAX_LOGIT_ERROR = 1e-2
"""Of mean absolute error by standard deviation. Usual are 1e-5; where a pixel of a hard mask lies on the border in
float32 and flips, 1e-3. A wrong graph is off by 1e-1 and more."""

MIN_EQUAL_PIXELS = 0.999


class ParityError(RuntimeError):
    """The exported file and torch disagree."""


def synthetic_photos(batch_size: int, height: int, width: int, seed: int) -> Tensor:
    """Smooth shapes with noise, normalised: float32 (batch, 3, height, width)."""
    generator = torch.Generator().manual_seed(seed)
    shapes = interpolate(
        torch.randn(batch_size, 3, 6, 8, generator=generator),
        size=(height, width),
        mode="bicubic",
        align_corners=False,
    )
    return shapes + 0.2 * torch.randn(shapes.shape, generator=generator)


def check_parity(path: Path, model: YosoForUniversalSegmentation, image_processor: Any) -> dict[str, float]:
    """Compares the exported file with the model and its image processor at several sizes and batch sizes.

    The post-processing is compared on the file's own logits, with the saved thresholds and with all queries kept.

    Returns:
        The largest `class_error` and `mask_error` and the least share `equal_pixels`.

    Raises:
        ParityError: if they are not within `MAX_LOGIT_ERROR` and `MIN_EQUAL_PIXELS`, or segments differ.
    """
    session = OnnxPredictor(path).session
    report = {"class_error": 0.0, "mask_error": 0.0, "equal_pixels": 1.0}
    for seed, shape in enumerate(CHECKED_SHAPES):
        pixel_values = synthetic_photos(*shape, seed)
        with torch.no_grad():
            expected = model(pixel_values)
        for thresholds in ({}, {"threshold": 0.0, "overlap_mask_area_threshold": 0.0}):
            results, logits = _run(session, pixel_values, thresholds)
            for kind, name in zip(("class_error", "mask_error"), LOGIT_NAMES, strict=True):
                report[kind] = max(report[kind], relative_error(logits[name], expected[name]))
            equal = _compare_maps(results, logits, pixel_values.shape[-2:], image_processor, thresholds)
            report["equal_pixels"] = min(report["equal_pixels"], equal)
    if not max(report["class_error"], report["mask_error"]) <= MAX_LOGIT_ERROR:
        raise ParityError(f"onnxruntime's logits differ from torch's: {report}, allowed are {MAX_LOGIT_ERROR}.")
    if report["equal_pixels"] < MIN_EQUAL_PIXELS:
        raise ParityError(f"onnxruntime's maps differ from torch's: {report}, at least {MIN_EQUAL_PIXELS} must agree.")
    return report


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Mean absolute error by the expected values' standard deviation."""
    return ((found - expected).abs().mean() / expected.std()).item()


def _run(
    session: onnxruntime.InferenceSession, pixel_values: Tensor, thresholds: dict[str, float]
) -> tuple[list[np.ndarray], dict[str, Tensor]]:
    size = pixel_values.shape[-2:]
    inputs = {
        "pixel_values": pixel_values.numpy(),
        "image_sizes": np.array([size] * len(pixel_values), dtype=np.int64),
        "target_size": np.array(_target_size(size), dtype=np.int64),
        **{name: np.array(value, dtype=np.float64) for name, value in thresholds.items()},
    }
    *results, class_logits, mask_logits = session.run(
        ["segmentation", "segments", "segment_scores", *LOGIT_NAMES], inputs
    )
    logits = (torch.from_numpy(values) for values in (class_logits, mask_logits))
    return results, dict(zip(LOGIT_NAMES, logits, strict=True))


def _target_size(size: tuple[int, int]) -> tuple[int, int]:
    return size[0] * 3 // 2, size[1] + 7


def _compare_maps(
    results: list[np.ndarray],
    logits: dict[str, Tensor],
    size: tuple[int, int],
    image_processor: Any,
    thresholds: dict[str, float],
) -> float:
    """Least share of equal pixels of an image; raises `ParityError` where the segments differ."""
    batch_size = len(results[0])
    expected = image_processor.post_process_panoptic_segmentation(
        SimpleNamespace(**logits, image_sizes=torch.tensor([size] * batch_size)),
        target_sizes=[_target_size(size)] * batch_size,
        **thresholds,
    )
    shares = []
    for id_map, table, reference in zip(results[0], results[1], expected, strict=True):
        found = [(row[0], row[1], bool(row[2])) for row in table.tolist() if row[0]]
        wanted = [(info["id"], info["label_id"], info["was_fused"]) for info in reference["segments_info"]]
        if found != wanted:
            raise ParityError(f"onnxruntime's segments (id, label, fused) {found} are not torch's {wanted}.")
        shares.append((torch.from_numpy(id_map) == reference["segmentation"]).float().mean().item())
    return min(shares)
