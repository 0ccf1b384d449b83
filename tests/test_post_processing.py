"""Post-processing against the official code's outputs, a direct implementation of its rules, and its promises."""

import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.nn.functional import interpolate
from torch.utils._python_dispatch import TorchDispatchMode

from transformers_yoso.models.image_processing_pil_yoso import YosoImageProcessorPil
from transformers_yoso.models.image_processing_yoso import YosoImageProcessor
from transformers_yoso.models.mask_upsampling import MaskUpsampling, upsample_masks
from transformers_yoso.models.post_processing import panoptic_segmentation, semantic_segmentation
from transformers_yoso.models.segmentation_encoding import encode_png, encode_rle

CASES = ["mixed", "stuffy", "duplicates", "empty"]
OUTSIDE = -1000.0


def make_outputs(class_logits, mask_logits, image_sizes=None):
    image_sizes = None if image_sizes is None else torch.tensor(image_sizes)
    return SimpleNamespace(
        class_queries_logits=class_logits, masks_queries_logits=mask_logits, image_sizes=image_sizes
    )


def random_logits(num_queries=12, num_labels=5, grid=(24, 32), seed=0):
    """Smooth blobs as masks and confident classes, "no object" among them."""
    generator = torch.Generator().manual_seed(seed)
    class_logits = 4 * torch.randn(num_queries, num_labels + 1, generator=generator)
    coarse = 8 * torch.randn(1, num_queries, 4, 5, generator=generator) - 6
    return class_logits, interpolate(coarse, size=grid, mode="bicubic")[0]


def one_segment_per_block(labels, probability=0.9, num_labels=4, blocks=(2, 2)):
    """Outputs in which query k owns block k of a 2x2 checkerboard on a 64x64 canvas."""
    logit = torch.tensor(probability / ((1 - probability) / num_labels)).log()
    class_logits = torch.zeros(len(labels), num_labels + 1)
    mask_logits = torch.full((len(labels), 16, 16), -20.0)
    for k, label in enumerate(labels):
        class_logits[k, label] = logit
        row, column = divmod(k, blocks[1])
        mask_logits[k, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = 20.0
    return make_outputs(class_logits[None], mask_logits[None])


def naive_panoptic(class_logits, mask_logits, image_size, target_size, threshold, overlap, stuff):
    """The rules, read literally: all masks at once at full size."""
    padded = [4 * edge for edge in mask_logits.shape[-2:]]
    masks = interpolate(mask_logits[None], size=padded, mode="bilinear")[..., : image_size[0], : image_size[1]]
    masks = interpolate(masks, size=target_size, mode="bilinear")[0].sigmoid()
    probs, labels = class_logits.softmax(-1).max(-1)
    kept = (labels != class_logits.shape[-1] - 1) & (probs > threshold)
    masks, probs, labels = masks[kept], probs[kept], labels[kept]
    segmentation = torch.zeros(target_size, dtype=torch.int32)
    segments, seen = [], {}
    if len(masks) == 0:
        return segmentation, segments
    winner = (probs[:, None, None] * masks).argmax(0)
    for k, label in enumerate(labels.tolist()):
        won, inside = winner == k, masks[k] >= 0.5
        pixels = won & inside
        if not (won.any() and inside.any() and pixels.any()) or won.sum() / inside.sum() < overlap:
            continue
        if label in seen and label in stuff:
            segmentation[pixels] = seen[label]
            continue
        segments.append((len(segments) + 1, label))
        seen[label] = len(segments)
        segmentation[pixels] = len(segments)
    return segmentation, segments


@pytest.fixture(params=CASES)
def case(request, shared_dir):
    folder = shared_dir / "reference" / "postprocess"
    settings = next(c for c in json.loads((folder / "cases.json").read_text()) if c["name"] == request.param)
    return settings, load_file(folder / f"{request.param}.safetensors")


@pytest.fixture
def case_processor(case):
    settings, tensors = case
    num_labels = tensors["class_logits"].shape[-1] - 1
    return YosoImageProcessor(
        threshold=settings["object_mask_threshold"],
        overlap_mask_area_threshold=settings["overlap_threshold"],
        label_ids_to_fuse=sorted(set(range(num_labels)) - set(settings["thing_classes"])),
    )


@pytest.fixture
def case_arguments(case):
    settings, tensors = case
    outputs = make_outputs(tensors["class_logits"][None], tensors["mask_logits"][None], [settings["resized"]])
    return {"outputs": outputs, "target_sizes": [tuple(settings["original"])]}


def test_panoptic_equals_official(case, case_processor, case_arguments):
    settings, tensors = case
    (result,) = case_processor.post_process_panoptic_segmentation(**case_arguments)
    segments = [(segment["id"], segment["label_id"]) for segment in result["segments_info"]]
    assert segments == [(segment["id"], segment["category_id"]) for segment in settings["segments_info"]]
    assert [s["was_fused"] for s in result["segments_info"]] == [not s["isthing"] for s in settings["segments_info"]]
    assert result["segmentation"].dtype == torch.int32
    assert (result["segmentation"] == tensors["panoptic"]).float().mean() >= 0.9999


def test_instance_equals_official(case, case_processor, case_arguments):
    _, tensors = case
    (result,) = case_processor.post_process_instance_segmentation(
        **case_arguments, threshold=0.0, return_binary_maps=True
    )
    has_mask = tensors["instance.mask_areas"] > 0
    segments = result["segments_info"]
    assert [segment["label_id"] for segment in segments] == tensors["instance.labels"][has_mask].tolist()
    scores = torch.tensor([segment["score"] for segment in segments])
    torch.testing.assert_close(scores, tensors["instance.scores"][has_mask], atol=2e-6, rtol=0)
    areas = result["segmentation"].flatten(1).sum(1)
    torch.testing.assert_close(areas.double(), tensors["instance.mask_areas"][has_mask].double(), rtol=1e-4, atol=1)


def test_semantic_equals_official(case, case_processor, case_arguments):
    _, tensors = case
    (segmentation,) = case_processor.post_process_semantic_segmentation(**case_arguments)
    assert (segmentation == tensors["semantic"]).float().mean() >= 0.999


@pytest.mark.parametrize("name", ["heads_a", "heads_b"])
def test_official_heads(shared_dir, name):
    folder = shared_dir / "reference" / name
    meta, tensors = json.loads((folder / "meta.json").read_text()), load_file(folder / "tensors.safetensors")
    logits = tensors["out.class_logits"], tensors[f"out.stage{meta['num_stages']}.mask_logits"]
    sizes = tuple(meta["resized_size"]), tuple(meta["original_size"])
    stuff = set(range(meta["num_classes"])) - set(meta["thing_classes"])
    thresholds = meta["object_mask_threshold"], 0.5, meta["overlap_threshold"]
    result = panoptic_segmentation(*logits, *sizes, *thresholds, stuff)
    segments = [(segment["id"], segment["label_id"]) for segment in result["segments_info"]]
    assert segments == [(segment["id"], segment["category_id"]) for segment in meta["segments_info"]]
    assert (result["segmentation"] == tensors["out.panoptic"]).float().mean() >= 0.9999
    segmentation, scores = semantic_segmentation(*logits, *sizes, return_scores=True)
    assert (segmentation == tensors["out.semantic"]).float().mean() >= 0.999
    torch.testing.assert_close(scores, tensors["out.semantic_scores"].float(), atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("seed", range(6))
def test_panoptic_equals_direct_implementation(seed):
    class_logits, mask_logits = random_logits(seed=seed)
    image_size, target_size = (90 - seed, 120 + seed), (70 + 30 * seed, 201)
    expected, segments = naive_panoptic(class_logits, mask_logits, image_size, target_size, 0.3, 0.4, {0, 1})
    result = panoptic_segmentation(class_logits, mask_logits, image_size, target_size, 0.3, 0.5, 0.4, {0, 1})
    assert [(segment["id"], segment["label_id"]) for segment in result["segments_info"]] == segments
    assert len(segments) >= 2
    assert (result["segmentation"] == expected).float().mean() >= 0.9999


def test_stuff_is_merged_once_and_ids_stay_unique():
    outputs = one_segment_per_block([2, 0, 2, 0])
    processor = YosoImageProcessor(label_ids_to_fuse=[2])
    (result,) = processor.post_process_panoptic_segmentation(outputs)
    segments = result["segments_info"]
    assert [(s["id"], s["label_id"], s["was_fused"]) for s in segments] == [(1, 2, True), (2, 0, False), (3, 0, False)]
    corners = result["segmentation"][::63, ::63]
    assert corners.tolist() == [[1, 2], [1, 3]]
    assert all(type(segment["label_id"]) is int and type(segment["score"]) is float for segment in segments)

    (result,) = processor.post_process_panoptic_segmentation(outputs, label_ids_to_fuse=[])
    assert [segment["id"] for segment in result["segments_info"]] == [1, 2, 3, 4]
    assert not any(segment["was_fused"] for segment in result["segments_info"])


def test_fused_segment_has_the_score_of_its_best_part():
    outputs = one_segment_per_block([2, 2])
    outputs.class_queries_logits[0, 1, 2] += 1
    best = outputs.class_queries_logits[0, 1].softmax(-1)[2].item()
    (result,) = YosoImageProcessor(label_ids_to_fuse=[2]).post_process_panoptic_segmentation(outputs)
    assert [segment["score"] for segment in result["segments_info"]] == [pytest.approx(best, abs=1e-6)]


def test_threshold_is_strict_and_no_object_is_dropped():
    outputs = one_segment_per_block([0, 4], num_labels=4)
    probability = outputs.class_queries_logits[0, 0].softmax(-1).max().item()
    processor = YosoImageProcessor()
    (result,) = processor.post_process_panoptic_segmentation(outputs, threshold=probability - 1e-4)
    assert [segment["label_id"] for segment in result["segments_info"]] == [0]
    (result,) = processor.post_process_panoptic_segmentation(outputs, threshold=probability)
    assert result["segments_info"] == []


def test_overlap_threshold_drops_hidden_segments_and_leaves_their_pixels_void():
    outputs = one_segment_per_block([0, 1])
    outputs.masks_queries_logits[0, 1] = outputs.masks_queries_logits[0].amax(0)
    outputs.class_queries_logits[0, 0, 0] += 1
    processor = YosoImageProcessor()
    (result,) = processor.post_process_panoptic_segmentation(outputs)
    assert [segment["label_id"] for segment in result["segments_info"]] == [0]
    assert result["segmentation"][0, 63] == 0
    (result,) = processor.post_process_panoptic_segmentation(outputs, overlap_mask_area_threshold=0.4)
    assert [segment["label_id"] for segment in result["segments_info"]] == [0, 1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_empty_result_keeps_its_types(dtype):
    class_logits = torch.zeros(1, 3, 5, dtype=dtype)
    outputs = make_outputs(class_logits, torch.zeros(1, 3, 8, 8, dtype=dtype))
    processor = YosoImageProcessor()
    (panoptic,) = processor.post_process_panoptic_segmentation(outputs, target_sizes=[(11, 13)])
    assert panoptic["segments_info"] == []
    assert panoptic["segmentation"].dtype == torch.int32
    assert torch.equal(panoptic["segmentation"], torch.zeros(11, 13, dtype=torch.int32))
    (instance,) = processor.post_process_instance_segmentation(outputs, target_sizes=[(11, 13)])
    assert instance["segments_info"] == []
    assert torch.equal(instance["segmentation"], torch.zeros(11, 13, dtype=torch.int32))
    (maps,) = processor.post_process_instance_segmentation(outputs, target_sizes=[(11, 13)], return_binary_maps=True)
    assert maps["segmentation"].shape == (0, 11, 13)
    assert maps["segmentation"].dtype == torch.bool


def test_batch_equals_each_alone():
    sizes = [(96, 64), (50, 128), (90, 100)]
    alone = [random_logits(grid=(-(-h // 32) * 8, -(-w // 32) * 8), seed=s) for s, (h, w) in enumerate(sizes)]
    masks = torch.full((3, 12, 24, 32), OUTSIDE)
    for index, (_, mask_logits) in enumerate(alone):
        masks[index, :, : mask_logits.shape[1], : mask_logits.shape[2]] = mask_logits
    batch = make_outputs(torch.stack([class_logits for class_logits, _ in alone]), masks, sizes)
    targets = torch.tensor([[150, 100], [70, 180], [33, 37]])
    processor = YosoImageProcessor(threshold=0.2, overlap_mask_area_threshold=0.3)
    for method in ("panoptic", "instance", "semantic"):
        post_process = getattr(processor, f"post_process_{method}_segmentation")
        for index, result in enumerate(post_process(batch, target_sizes=targets)):
            class_logits, mask_logits = alone[index]
            outputs = make_outputs(class_logits[None], mask_logits[None], [sizes[index]])
            (single,) = post_process(outputs, target_sizes=[tuple(targets[index].tolist())])
            if method == "semantic":
                assert torch.equal(result, single)
            else:
                assert result["segments_info"] == single["segments_info"]
                assert torch.equal(result["segmentation"], single["segmentation"])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_computed_in_float32(dtype):
    logits = [value.to(dtype)[None] for value in random_logits(seed=3)]
    half = make_outputs(*logits)
    single = make_outputs(*(value.float() for value in logits))
    processor = YosoImageProcessor(threshold=0.2, overlap_mask_area_threshold=0.3)
    for method in ("panoptic", "instance"):
        post_process = getattr(processor, f"post_process_{method}_segmentation")
        (a,), (b,) = post_process(half), post_process(single)
        assert a["segments_info"] == b["segments_info"]
        assert len(a["segments_info"]) > 1
        assert torch.equal(a["segmentation"], b["segmentation"])
    (output,) = processor.post_process_semantic_segmentation(half, return_segmentation_scores=True)
    assert output.segmentation_scores.dtype == torch.float32


class LargestTensor(TorchDispatchMode):
    """Remembers the size in bytes of the largest tensor any operation returns."""

    size = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.size = max(self.size, tensor.numel() * tensor.element_size())
        return result


def test_memory_does_not_grow_with_queries_at_12_megapixels():
    target_size = (3000, 4000)
    class_logits, mask_logits = random_logits(num_queries=4, seed=1)
    outputs = make_outputs(class_logits[None], mask_logits[None])
    processor = YosoImageProcessor(threshold=0.0, overlap_mask_area_threshold=0.0)
    one_map = 4 * target_size[0] * target_size[1]
    with LargestTensor() as largest:
        (panoptic,) = processor.post_process_panoptic_segmentation(outputs, target_sizes=[target_size])
        processor.post_process_instance_segmentation(outputs, target_sizes=[target_size])
    assert len(panoptic["segments_info"]) >= 2
    assert largest.size <= one_map
    with LargestTensor() as largest:
        (semantic,) = processor.post_process_semantic_segmentation(outputs, target_sizes=[target_size])
    assert semantic.shape == target_size
    assert largest.size <= 2 * one_map  # the int64 map itself


def test_semantic_in_blocks_equals_all_rows_at_once(monkeypatch):
    class_logits, mask_logits = random_logits(seed=4)
    masks = upsample_masks(mask_logits, (77, 101), (150, 140)).sigmoid()
    expected = torch.einsum("nc,nhw->chw", class_logits.softmax(-1)[:, :-1], masks)
    monkeypatch.setattr("transformers_yoso.models.post_processing.SEMANTIC_BLOCK_ELEMENTS", 12 * 140 * 7)
    segmentation, scores = semantic_segmentation(class_logits, mask_logits, (77, 101), (150, 140), return_scores=True)
    torch.testing.assert_close(scores, expected, atol=1e-5, rtol=1e-5)
    assert (segmentation == expected.argmax(0)).float().mean() > 0.999


def test_overlapping_instances():
    outputs = one_segment_per_block([0, 1])
    outputs.masks_queries_logits[0, 1, :8] = 20.0
    outputs.class_queries_logits[0, 1, 1] -= 1
    processor = YosoImageProcessor()
    (result,) = processor.post_process_instance_segmentation(outputs, threshold=0.5)
    assert [(s["id"], s["label_id"], s["was_fused"]) for s in result["segments_info"]] == [
        (1, 0, False),
        (2, 1, False),
    ]
    scores = [segment["score"] for segment in result["segments_info"]]
    assert scores[0] > scores[1]
    assert result["segmentation"][0, ::63].tolist() == [1, 2]
    assert result["segmentation"][63, 0] == 0

    (whole,) = processor.post_process_instance_segmentation(outputs, threshold=0.5, return_binary_maps=True)
    assert whole["segmentation"].shape == (2, 64, 64)
    assert whole["segmentation"][:, 0, 0].all()
    (runs,) = processor.post_process_instance_segmentation(outputs, threshold=0.5, return_coco_annotation=True)
    for mask, rle in zip(whole["segmentation"], runs["segmentation"], strict=True):
        decoded = torch.zeros(64 * 64, dtype=torch.bool)
        for start, length in zip(rle[::2], rle[1::2], strict=True):
            decoded[start - 1 : start - 1 + length] = True
        assert torch.equal(decoded.view(64, 64), mask)
    with pytest.raises(ValueError, match="exclude each other"):
        processor.post_process_instance_segmentation(outputs, return_binary_maps=True, return_coco_annotation=True)


def test_mask_threshold_moves_the_outline():
    outputs = make_outputs(*(value[None] for value in random_logits(seed=5)))
    processor = YosoImageProcessor()

    def areas(mask_threshold):
        (result,) = processor.post_process_instance_segmentation(
            outputs, threshold=0.0, mask_threshold=mask_threshold, return_binary_maps=True
        )
        return result["segmentation"].float().mean()

    assert areas(0.9) < areas(0.5) < areas(0.1)
    assert areas(0.0) == 1


@pytest.mark.parametrize("processor_class", [YosoImageProcessor, YosoImageProcessorPil])
def test_saved_values_are_the_defaults(processor_class, tmp_path):
    outputs = one_segment_per_block([2, 2], probability=0.6)
    processor_class(threshold=0.5, label_ids_to_fuse={2}).save_pretrained(tmp_path)
    processor = processor_class.from_pretrained(tmp_path)
    assert processor.label_ids_to_fuse == [2]
    (result,) = processor.post_process_panoptic_segmentation(outputs)
    assert [segment["was_fused"] for segment in result["segments_info"]] == [True]
    (result,) = processor.post_process_panoptic_segmentation(outputs, threshold=0.7)
    assert result["segments_info"] == []


class TestImageSizes:
    """Where the image lies inside the padded input: the first source that knows, wins."""

    processor = YosoImageProcessor(size={"shortest_edge": 60, "longest_edge": 100})

    def outputs(self, batch_size=1, grid=(16, 24), image_sizes=None):
        return make_outputs(torch.zeros(batch_size, 2, 3), torch.zeros(batch_size, 2, *grid), image_sizes)

    def test_given_sizes_come_first(self):
        outputs = self.outputs(image_sizes=[(50, 70)])
        assert self.processor.resolve_image_sizes(outputs, [(120, 160)], [(55, 66)]) == [(55, 66)]

    def test_then_the_models(self):
        outputs = self.outputs(image_sizes=[(50, 70)])
        assert self.processor.resolve_image_sizes(outputs, [(120, 160)]) == [(50, 70)]
        (segmentation,) = self.processor.post_process_semantic_segmentation(outputs)
        assert segmentation.shape == (50, 70)

    def test_then_the_resize_rule_if_it_makes_this_canvas(self):
        assert self.processor.resolve_image_sizes(self.outputs(), [(120, 160)]) == [(60, 80)]
        batch = self.outputs(batch_size=2)
        assert self.processor.resolve_image_sizes(batch, torch.tensor([[120, 160], [100, 100]])) == [
            (60, 80),
            (60, 60),
        ]

    def test_else_the_whole_canvas(self):
        assert self.processor.resolve_image_sizes(self.outputs(), [(160, 120)]) == [(64, 96)]
        assert self.processor.resolve_image_sizes(self.outputs()) == [(64, 96)]

    def test_pad_size(self):
        processor = YosoImageProcessor(size={"shortest_edge": 60}, pad_size={"height": 128, "width": 128})
        assert processor.resolve_image_sizes(self.outputs(grid=(32, 32)), [(120, 160)]) == [(60, 80)]

    def test_wrong_sizes_are_refused(self):
        with pytest.raises(ValueError, match="2 `target_sizes` for a batch of 1"):
            self.processor.post_process_semantic_segmentation(self.outputs(), target_sizes=[(1, 4), (1, 4)])
        with pytest.raises(ValueError, match="do not fit the padded input"):
            self.processor.post_process_panoptic_segmentation(self.outputs(), resized_sizes=[(65, 20)])
        with pytest.raises(ValueError, match="must be positive"):
            self.processor.post_process_instance_segmentation(self.outputs(), target_sizes=[(0, 20)])
        with pytest.raises(ValueError, match=r"`threshold` must lie in \[0, 1\]"):
            self.processor.post_process_panoptic_segmentation(self.outputs(), threshold=50)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_cpu():
    logits = random_logits(num_queries=40, seed=6)
    on_cpu, on_cuda = (make_outputs(*(x[None].to(device) for x in logits)) for device in ("cpu", "cuda"))
    processor = YosoImageProcessor(threshold=0.2, label_ids_to_fuse=[0, 1])
    for method in ("panoptic", "instance"):
        post_process = getattr(processor, f"post_process_{method}_segmentation")
        (a,), (b,) = (post_process(outputs, target_sizes=[(200, 300)]) for outputs in (on_cpu, on_cuda))
        assert b["segmentation"].is_cuda
        assert [s["label_id"] for s in a["segments_info"]] == [s["label_id"] for s in b["segments_info"]]
        assert (a["segmentation"] == b["segmentation"].cpu()).float().mean() > 0.999
    (a,), (b,) = (processor.post_process_semantic_segmentation(outputs) for outputs in (on_cpu, on_cuda))
    assert (a == b.cpu()).float().mean() > 0.999


def test_instance_map_lists_only_segments_that_can_be_seen() -> None:
    """Two queries with the same mask: the better one covers the other, which only whole masks can show."""
    class_logits = torch.tensor([[[4.0, 0.0, 0.0], [3.0, 0.0, 0.0]]])
    mask_logits = torch.full((1, 2, 8, 8), -9.0)
    mask_logits[:, :, :4] = 9.0
    outputs = SimpleNamespace(class_queries_logits=class_logits, masks_queries_logits=mask_logits)
    processor = YosoImageProcessor()
    (seen,) = processor.post_process_instance_segmentation(outputs, threshold=0.5)
    (whole,) = processor.post_process_instance_segmentation(outputs, threshold=0.5, return_binary_maps=True)
    assert [segment["id"] for segment in seen["segments_info"]] == [1]
    assert seen["segmentation"].unique().tolist() == [0, 1]
    assert len(whole["segments_info"]) == len(whole["segmentation"]) == 2


def test_instances_below_the_saved_threshold_are_dropped_by_default() -> None:
    class_logits = torch.tensor([[[2.0, 0.0, 0.0]]])
    outputs = SimpleNamespace(class_queries_logits=class_logits, masks_queries_logits=torch.full((1, 1, 8, 8), 9.0))
    for threshold, count in ((0.5, 1), (0.95, 0)):
        (result,) = YosoImageProcessor(threshold=threshold).post_process_instance_segmentation(outputs)
        assert len(result["segments_info"]) == count


def test_nan_logits_are_refused() -> None:
    logits = torch.full((1, 3, 4), float("nan"))
    outputs = SimpleNamespace(class_queries_logits=logits, masks_queries_logits=torch.zeros(1, 3, 8, 8))
    with pytest.raises(ValueError, match="NaN"):
        YosoImageProcessor().post_process_panoptic_segmentation(outputs)


def test_map_as_png_and_as_run_lengths() -> None:
    mask = pytest.importorskip("pycocotools.mask")
    outputs = make_outputs(*(value[None] for value in random_logits(seed=2)))
    processor = YosoImageProcessor(threshold=0.2, overlap_mask_area_threshold=0.3)
    arguments = {"outputs": outputs, "target_sizes": [(70, 83)]}
    results = [
        processor.post_process_panoptic_segmentation(**arguments, output_format=output_format)[0]
        for output_format in ("map", "png", "rle")
    ]
    segmentation, png, runs = (result["segmentation"] for result in results)
    assert len(results[0]["segments_info"]) > 1
    assert results[0]["segments_info"] == results[1]["segments_info"] == results[2]["segments_info"]
    red, green, blue = np.moveaxis(np.array(Image.open(io.BytesIO(png))).astype(int), -1, 0)
    assert (red + 256 * green + 65536 * blue == segmentation.numpy()).all()
    for segment, rle in zip(results[0]["segments_info"], runs, strict=True):
        decoded = mask.decode(mask.frPyObjects(rle, *rle["size"]))
        assert (decoded == (segmentation == segment["id"]).numpy()).all()
    with pytest.raises(ValueError, match="output_format"):
        processor.post_process_panoptic_segmentation(**arguments, output_format="jpeg")


def test_run_lengths_of_segments_at_the_ends_of_the_map() -> None:
    segmentation = torch.tensor([[1, 0, 2], [1, 3, 2]], dtype=torch.int32)
    runs = encode_rle(segmentation, [1, 2, 3])
    assert [rle["counts"] for rle in runs] == [[0, 2, 4], [4, 2], [3, 1, 2]]
    assert encode_png(torch.full((2, 2), 65536 + 2, dtype=torch.int32))[:4] == b"\x89PNG"


def test_rows_of_any_block_equal_two_resizes_at_once() -> None:
    """Against `interpolate` twice, from grids and to sizes that divide each other in no way."""
    torch.manual_seed(0)
    for image_size, target_size in (((90, 119), (77, 201)), ((96, 128), (300, 64)), ((33, 100), (33, 100))):
        grid = 5 * torch.randn(3, -(-image_size[0] // 32) * 8, 32)
        canvas = interpolate(grid[None], scale_factor=4, mode="bilinear")[..., : image_size[0], : image_size[1]]
        expected = interpolate(canvas, size=target_size, mode="bilinear")[0]
        upsampling = MaskUpsampling(grid, image_size, target_size)
        blocks = [upsampling.rows(start, min(start + 13, target_size[0])) for start in range(0, target_size[0], 13)]
        torch.testing.assert_close(torch.cat(blocks, dim=1), expected, rtol=1e-5, atol=1e-5)
