"""The benchmark's literal implementation of the released code: equal to ours in float64, and to the authors' outputs."""

import json

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from test_official_equality import assert_close, heads  # noqa: F401
from tiny_yoso import photo_tensor, tiny_model
from transformers_yoso import YosoImageProcessor
from transformers_yoso.benchmark.literal import LiteralYoso
from transformers_yoso.benchmark.literal_post_processing import literal_panoptic_segmentation
from transformers_yoso.benchmark.random_model import blob_logits, randomise_norm
from transformers_yoso.models.modeling_outputs_yoso import YosoForUniversalSegmentationOutput


@pytest.fixture(scope="module")
def photos(shared_dir) -> torch.Tensor:
    files = sorted((shared_dir / "data/coco_panoptic_sample/val2017").glob("*.jpg"))
    return torch.stack([photo_tensor(Image.open(file), (96, 128)) for file in files]).double()


def test_literal_forward_equals_ours_in_float64(photos) -> None:
    model = tiny_model().double()
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if hasattr(module, "running_var"):
            randomise_norm(module, generator)
    literal = LiteralYoso(model)
    with torch.no_grad():
        expected, found = model(photos), literal(photos)
    assert_close(found.class_queries_logits, expected.class_queries_logits, 1e-9)
    assert_close(found.masks_queries_logits, expected.masks_queries_logits, 1e-9)
    assert found.masks_queries_logits.std() > 0


def test_literal_does_not_share_weights_with_the_model(photos) -> None:
    model = tiny_model().double()
    literal = LiteralYoso(model)
    with torch.no_grad():
        before = literal(photos[:1]).masks_queries_logits
        for parameter in model.parameters():
            parameter.zero_()
        assert torch.equal(literal(photos[:1]).masks_queries_logits, before)


def test_literal_neck_and_stages_equal_the_official_ones(heads) -> None:  # noqa: F811
    literal, stored = LiteralYoso(heads.model), heads.tensors
    features = [stored[f"in.c{level}"] for level in (2, 3, 4, 5)]
    kernels = stored["weights.yoso_head.kernels.weight"].flatten(1)
    with torch.no_grad():
        assert_close(literal.neck(features), stored["out.features"], 1e-4)
        for number, stage in enumerate(literal.decoder.stages, start=1):
            class_logits, mask_logits, refined = stage(
                stored["out.features"], kernels[None], stored[f"out.stage{number - 1}.mask_logits"][None]
            )
            kernels = stored[f"out.stage{number}.kernels"]
            assert_close(refined[0], kernels, 1e-4)
            assert_close(mask_logits[0], stored[f"out.stage{number}.mask_logits"], 1e-4)
    assert_close(class_logits[0], stored["out.class_logits"], 1e-4)


@pytest.mark.parametrize("name", ["mixed", "stuffy", "duplicates", "empty"])
def test_literal_post_processing_equals_the_official_one(name, shared_dir) -> None:
    folder = shared_dir / "reference" / "postprocess"
    (case,) = (case for case in json.loads((folder / "cases.json").read_text()) if case["name"] == name)
    tensors = load_file(folder / f"{name}.safetensors")
    num_labels = tensors["class_logits"].shape[-1] - 1
    result = literal_panoptic_segmentation(
        tensors["class_logits"].float(),
        tensors["mask_logits"].float(),
        image_size=tuple(case["resized"]),
        target_size=tuple(case["original"]),
        threshold=case["object_mask_threshold"],
        overlap_mask_area_threshold=case["overlap_threshold"],
        label_ids_to_fuse=set(range(num_labels)) - set(case["thing_classes"]),
    )
    assert torch.equal(result["segmentation"], tensors["panoptic"])
    assert ids_and_labels(result) == [(info["id"], info["category_id"]) for info in case["segments_info"]]


def ids_and_labels(result: dict) -> list[tuple[int, int]]:
    return [(info["id"], info["label_id"]) for info in result["segments_info"]]


@pytest.mark.parametrize("target_size", [(96, 128), (61, 203)])
def test_literal_post_processing_equals_ours(target_size) -> None:
    class_logits, mask_logits = blob_logits(num_queries=40, num_labels=6, grid=(24, 32), kept=20)
    processor = YosoImageProcessor(label_ids_to_fuse=[3, 4, 5], overlap_mask_area_threshold=0.3)
    outputs = YosoForUniversalSegmentationOutput(class_queries_logits=class_logits, masks_queries_logits=mask_logits)
    (ours,) = processor.post_process_panoptic_segmentation(
        outputs, target_sizes=[target_size], resized_sizes=[(90, 121)]
    )
    literal = literal_panoptic_segmentation(
        class_logits[0],
        mask_logits[0],
        image_size=(90, 121),
        target_size=target_size,
        threshold=processor.threshold,
        overlap_mask_area_threshold=processor.overlap_mask_area_threshold,
        label_ids_to_fuse={3, 4, 5},
    )
    assert torch.equal(literal["segmentation"], ours["segmentation"])
    assert ids_and_labels(literal) == ids_and_labels(ours)
    assert len(ours["segments_info"]) > 3


def test_literal_post_processing_without_kept_queries_is_void() -> None:
    class_logits, mask_logits = blob_logits(num_queries=10, num_labels=6, grid=(8, 8), kept=0)
    result = literal_panoptic_segmentation(class_logits[0], mask_logits[0], (32, 32), (20, 30), 0.7, 0.8, set())
    assert result["segments_info"] == []
    assert result["segmentation"].shape == (20, 30)
    assert not result["segmentation"].any()
