"""The ONNX graph of the panoptic post-processing against the torch code and the official code's outputs."""

import json

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import interpolate

from transformers_yoso.export.panoptic_graph import panoptic_graph
from transformers_yoso.models.post_processing import panoptic_segmentation

NUM_LABELS = 5


@pytest.fixture(scope="module")
def session():
    return onnxruntime.InferenceSession(panoptic_graph().SerializeToString())


def run_graph(session, class_logits, mask_logits, image_sizes, target_size, thresholds, stuff):
    """Per image the id map and the list of segments, as the torch code gives them."""
    is_fused = np.isin(np.arange(class_logits.shape[-1]), sorted(stuff))
    inputs = {
        "class_queries_logits": class_logits.numpy(),
        "masks_queries_logits": mask_logits.numpy(),
        "image_sizes": np.array(image_sizes),
        "target_size": np.array(target_size),
        "is_fused": is_fused,
    }
    names = ("threshold", "mask_threshold", "overlap_mask_area_threshold")
    inputs |= {name: np.array(value) for name, value in zip(names, thresholds, strict=True)}
    segmentation, segments, scores = session.run(None, inputs)
    assert segmentation.shape == (len(class_logits), *target_size)
    assert segments.shape == (*class_logits.shape[:2], 4)
    results = []
    for id_map, table, values in zip(segmentation, segments, scores, strict=True):
        infos = []
        for (segment_id, label, was_fused, area), score in zip(table.tolist(), values.tolist(), strict=True):
            assert segment_id in (0, len(infos) + 1)
            if segment_id:
                assert area == (id_map == segment_id).sum()
                infos.append({"id": segment_id, "label_id": label, "was_fused": bool(was_fused), "score": score})
        results.append((torch.from_numpy(id_map), infos))
    return results


def assert_same_segments(found, expected):
    assert [{**info, "score": pytest.approx(info["score"], abs=2e-6)} for info in expected] == found


def random_logits(seed, grid, num_queries=20):
    """Smooth blobs as masks and confident classes, "no object" among them."""
    generator = torch.Generator().manual_seed(seed)
    class_logits = 4 * torch.randn(2, num_queries, NUM_LABELS + 1, generator=generator)
    coarse = 8 * torch.randn(2, num_queries, 4, 5, generator=generator) - 3
    return class_logits, interpolate(coarse, size=grid, mode="bicubic")


@pytest.mark.parametrize("target_size", [(77, 101), (150, 140), (33, 64), (300, 211)])
@pytest.mark.parametrize("thresholds", [(0.2, 0.5, 0.3), (0.5, 0.4, 0.2), (0.0, 0.6, 0.0)])
def test_equals_torch(session, target_size, thresholds):
    image_sizes = [(77, 101), (96, 128)]
    logits = random_logits(seed=sum(target_size), grid=(24, 32))
    found = run_graph(session, *logits, image_sizes, target_size, thresholds, stuff={0, 1})
    for index, (id_map, segments) in enumerate(found):
        expected = panoptic_segmentation(
            logits[0][index], logits[1][index], image_sizes[index], target_size, *thresholds, label_ids_to_fuse={0, 1}
        )
        assert len(segments) > 1
        assert_same_segments(segments, expected["segments_info"])
        assert (id_map == expected["segmentation"]).float().mean() > 0.999


def test_image_on_a_smaller_canvas_than_the_batch(session):
    """Cells of the batch's canvas past the image's own one are not mixed into its border."""
    class_logits, mask_logits = random_logits(seed=3, grid=(24, 32))
    mask_logits[..., 8:, :] = -1000.0
    mask_logits[..., 24:] = -1000.0
    image_size, target_size, thresholds = (30, 90), (60, 180), (0.2, 0.5, 0.3)
    found = run_graph(session, class_logits, mask_logits, [image_size] * 2, target_size, thresholds, stuff=set())
    for index, (id_map, segments) in enumerate(found):
        own = (class_logits[index], mask_logits[index, :, :8, :24])
        expected = panoptic_segmentation(*own, image_size, target_size, *thresholds, label_ids_to_fuse=set())
        assert_same_segments(segments, expected["segments_info"])
        assert (id_map == expected["segmentation"]).float().mean() > 0.999


def test_nothing_kept_in_one_image_of_two(session):
    class_logits, mask_logits = random_logits(seed=4, grid=(16, 16))
    class_logits[0, :, -1] = 50.0
    (empty, no_segments), (full, segments) = run_graph(
        session, class_logits, mask_logits, [(64, 64)] * 2, (50, 40), (0.2, 0.5, 0.3), stuff={0}
    )
    assert not empty.any() and no_segments == []
    assert full.any() and segments


def test_share_equal_to_the_overlap_threshold_is_kept(session):
    """Two masks of the same class share half of the pixels; 0.8 of the second one's area stays its own."""
    class_logits = torch.zeros(1, 2, NUM_LABELS + 1)
    class_logits[0, 0, 2], class_logits[0, 1, 2] = 9.0, 8.0
    mask_logits = torch.full((1, 2, 8, 40), -50.0)
    mask_logits[0, 0, :, 32:] = mask_logits[0, 1] = 50.0
    for threshold, labels in ((0.8, [2, 2]), (0.81, [2])):
        ((_, segments),) = run_graph(
            session, class_logits, mask_logits, [(32, 160)], (32, 160), (0.5, 0.5, threshold), stuff=set()
        )
        expected = panoptic_segmentation(
            class_logits[0], mask_logits[0], (32, 160), (32, 160), 0.5, 0.5, threshold, set()
        )
        assert [segment["label_id"] for segment in segments] == labels
        assert len(expected["segments_info"]) == len(labels)


@pytest.mark.parametrize("name", ["mixed", "stuffy", "duplicates", "empty"])
def test_equals_the_official_code(session, shared_dir, name):
    folder = shared_dir / "reference" / "postprocess"
    settings = next(case for case in json.loads((folder / "cases.json").read_text()) if case["name"] == name)
    tensors = load_file(folder / f"{name}.safetensors")
    logits = tensors["class_logits"][None].float(), tensors["mask_logits"][None].float()
    thresholds = settings["object_mask_threshold"], 0.5, settings["overlap_threshold"]
    stuff = set(range(logits[0].shape[-1] - 1)) - set(settings["thing_classes"])
    ((id_map, segments),) = run_graph(
        session, *logits, [settings["resized"]], tuple(settings["original"]), thresholds, stuff
    )
    expected = [(info["id"], info["category_id"], not info["isthing"]) for info in settings["segments_info"]]
    assert [(info["id"], info["label_id"], info["was_fused"]) for info in segments] == expected
    assert (id_map == tensors["panoptic"]).float().mean() >= 0.9999
