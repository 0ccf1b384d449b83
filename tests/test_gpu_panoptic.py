"""The GPU's panoptic post-processing against the CPU's: its Triton kernel in the interpreter, the rest with plain torch."""

import warnings

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from test_post_processing import make_outputs, random_logits
from transformers_yoso.models.gpu_panoptic import panoptic_segmentations
from transformers_yoso.models.image_processing_yoso import YosoImageProcessor
from transformers_yoso.models.post_processing import panoptic_segmentation
from triton_interpreter import run_in_interpreter

RULES = {
    "threshold": 0.2,
    "mask_threshold": 0.5,
    "overlap_mask_area_threshold": 0.3,
    "label_ids_to_fuse": {0, 3},
}

WAITING_OPERATORS = ("_local_scalar_dense", "nonzero", "masked_select", "bincount", "is_nonzero", "equal")
"""Operators of torch for which the host waits for the GPU."""

KERNEL_CHECK = """
import torch
from test_gpu_panoptic import check_images
from transformers_yoso.models.panoptic_assignment_triton import assign_pixels

check_images(assign_pixels, seeds=[0], dtype=torch.float32, target_size=(6, 130), num_queries=6)
check_images(assign_pixels, seeds=[1], dtype=torch.bfloat16, target_size=(6, 130), num_queries=6)
"""


def assign_pixels(
    mask_logits: Tensor,
    kept_queries: Tensor,
    num_kept: Tensor,
    scores: Tensor,
    rows: tuple[Tensor, Tensor],
    columns: tuple[Tensor, Tensor],
    mask_threshold: float,
) -> tuple[Tensor, Tensor]:
    """What the Triton kernel promises, for all queries at once and without a look at a number."""
    maps = (mask_logits[:, rows[0].long()] * rows[1][..., None]).sum(2)
    masks = (maps[..., columns[0].long()] * columns[1]).sum(-1).sigmoid()
    is_kept = (torch.arange(len(scores)) < num_kept)[kept_queries.argsort()][:, None, None]
    weighted, winner = (masks * scores[:, None, None]).where(is_kept, -1.0).max(0)
    inside = (masks >= mask_threshold) & is_kept
    codes = (2 * winner + inside.gather(0, winner[None])[0]).where(weighted >= 0, 0)
    query = torch.arange(len(scores))[:, None, None]
    won = (codes // 2 == query) & is_kept
    areas = torch.stack([part.sum((1, 2)) for part in (inside, won, won & inside)], dim=1)
    return codes.int(), areas.int()


def check_images(assign_pixels, seeds, dtype, target_size, num_queries) -> int:
    """Compares both paths; the last image keeps no query. Returns the number of segments."""
    images = []
    for seed in seeds:
        class_logits, mask_logits = random_logits(num_queries, seed=seed)
        images.append((class_logits, mask_logits.to(dtype), (90, 119), target_size))
    images.append((-class_logits.abs(), mask_logits, (96, 128), target_size))
    images[-1][0][:, -1] = 9.0
    expected = [panoptic_segmentation(*image, **RULES) for image in images]
    results = panoptic_segmentations(images, assign_pixels, **RULES)
    for found, wanted in zip(results, expected, strict=True):
        assert found["segments_info"] == wanted["segments_info"]
        assert found["segmentation"].dtype == torch.int32
        assert (found["segmentation"] == wanted["segmentation"]).float().mean() > 0.999
    assert results[-1]["segments_info"] == [] and not results[-1]["segmentation"].any()
    return sum(len(result["segments_info"]) for result in results)


def test_equals_the_path_of_the_cpu() -> None:
    num_segments = check_images(
        assign_pixels, seeds=range(20), dtype=torch.float32, target_size=(37, 201), num_queries=12
    )
    assert num_segments > 40


def test_parts_of_a_stuff_class_are_one_segment_with_the_best_score() -> None:
    """Queries 0 and 2 are of stuff class 3 and keep to their halves, query 1 is a thing; the better part comes last."""
    class_logits = torch.full((3, 6), -9.0)
    class_logits[0, 3], class_logits[1, 1], class_logits[2, 3] = -7.0, 0.0, 0.0
    mask_logits = torch.full((3, 24, 24), -9.0)
    for query in range(3):
        mask_logits[query, :, 8 * query : 8 * query + 8] = 9.0
    image = (class_logits, mask_logits, (96, 96), (96, 96))
    (result,) = panoptic_segmentations([image], assign_pixels, **RULES)
    first, second = result["segments_info"]
    assert (first["id"], first["label_id"], first["was_fused"]) == (1, 3, True)
    assert (second["id"], second["label_id"], second["was_fused"]) == (2, 1, False)
    assert first["score"] > 0.99
    assert result["segmentation"][48].unique_consecutive().tolist() == [1, 2, 1]


def test_undefined_logits_are_refused() -> None:
    class_logits, mask_logits = random_logits()
    class_logits[3, 2] = float("nan")
    with pytest.raises(ValueError, match="NaN or infinite"):
        panoptic_segmentations([(class_logits, mask_logits, (96, 128), (96, 128))], assign_pixels, **RULES)


class CountWaiting(TorchDispatchMode):
    """Counts the operators for which a host would wait."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        bool_index = name == "index" and any(index is not None and index.dtype == torch.bool for index in args[1])
        if name in WAITING_OPERATORS or bool_index:
            self.waiting.append(name)
        return func(*args, **kwargs or {})


def test_host_does_not_wait_before_the_segments_are_read() -> None:
    image = (*random_logits(), (96, 128), (96, 128))
    with CountWaiting() as gpu_path:
        panoptic_segmentations([image], assign_pixels, **RULES)
    with CountWaiting() as cpu_path:
        panoptic_segmentation(*image, **RULES)
    assert gpu_path.waiting == []
    assert "nonzero" in cpu_path.waiting


def test_triton_kernel_equals_the_cpu_in_the_interpreter() -> None:
    run_in_interpreter(KERNEL_CHECK)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_host_waits_once_on_a_gpu() -> None:
    outputs = make_outputs(*(logits[None].cuda() for logits in random_logits(num_queries=40)))
    processor = YosoImageProcessor(threshold=0.2, label_ids_to_fuse=[0, 1])
    processor.post_process_panoptic_segmentation(outputs, target_sizes=[(200, 300)])
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            processor.post_process_panoptic_segmentation(outputs, target_sizes=[(200, 300)])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len([warning for warning in caught if "synchronizing" in str(warning.message)]) == 1
