"""The benchmark command on a tiny model: every section, honest gaps, summary, regression check, memory."""

import json
import sys
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from torch import nn

from tiny_yoso import tiny_config, tiny_model
from transformers_yoso import YosoImageProcessor
from transformers_yoso.benchmark import command, peers, registry, run, straight_loss
from transformers_yoso.benchmark.agreement import class_map, measure_accuracy, segment
from transformers_yoso.benchmark.case import Case, parse_size
from transformers_yoso.benchmark.inference_memory import measure_inference_memory
from transformers_yoso.benchmark.loss_memory import LossCase, coco_criterion
from transformers_yoso.benchmark.peak_memory import MemoryNotMeasuredError, extra_peak_mb
from transformers_yoso.benchmark.random_model import KEPT_QUERIES, blob_logits, fit_to_photo, randomise_norm
from transformers_yoso.benchmark.regression import compare_runs, describe, ratios_to_reference
from transformers_yoso.benchmark.summary import ROWS, Measurements, summarise
from transformers_yoso.benchmark.timing import median_ratio, time_interleaved
from transformers_yoso.benchmark.variants import PlainVariant, Settings, UnavailableError
from transformers_yoso.data import PanopticSample
from transformers_yoso.models.segmentation_targets import binary_masks

ROOT = Path(__file__).resolve().parents[1]
PHOTO = ROOT / "assets/facade_demo.jpg"
CPU = torch.device("cpu")


# The command


def fake_memory(checkpoint: Path, variant: str, *arguments: object) -> float:
    """In the place of a fresh process for each variant."""
    if variant == "plain+bf16":
        raise MemoryNotMeasuredError("no /proc here")
    return {"literal": 486.0, "plain": 150.0}[variant] + (0.0 if arguments[-1] else 50.0)


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory) -> tuple[dict, Path]:
    """Results of the command with a tiny model in the place of the ResNet-50."""
    output_dir = tmp_path_factory.mktemp("benchmark")
    words = ["--output_dir", output_dir, "--sizes", "64x96", "--target_size", "50x100", "--rounds", "2"]
    words += ["--threads", "1", "--allocator", "default", "--skip_accuracy"]
    words += ["--variants", "literal", "plain", "plain+bf16", "plain+fp16", "limit"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "coco_config", tiny_config)
        patch.setattr(run, "measure_inference_memory", fake_memory)
        threads = torch.get_num_threads()
        command.main(list(map(str, words)))
        torch.set_num_threads(threads)
    return json.loads((output_dir / "benchmark.json").read_text()), output_dir


def test_every_part_of_every_variant_is_timed(tiny_run) -> None:
    timings = tiny_run[0]["sizes"]["64x96"]["timings"]
    panoptic = {"backbone", "neck", "decoder", "forward", "post-processing", "end to end"}
    assert {name: set(parts) for name, parts in timings.items()} == {
        "shared": {"decode", "pre-processing", "drawing"},
        "literal": panoptic,
        "plain": panoptic,
        "plain+bf16": panoptic,
        "limit": {"forward"},
    }
    for parts in timings.values():
        for timing in parts.values():
            assert 0 < timing["q1_ms"] <= timing["median_ms"] <= timing["q3_ms"]
            assert len(timing["measurements_ms"]) == 2


def test_variants_that_cannot_run_are_named_with_the_reason(tiny_run) -> None:
    result, output_dir = tiny_run
    assert set(result["unavailable"]) == {"plain+fp16"}
    assert result["unavailable"]["plain+fp16"] in (output_dir / "benchmark.md").read_text()


def test_variants_agree_with_the_plain_model(tiny_run) -> None:
    agreement = tiny_run[0]["sizes"]["64x96"]["agreement"]
    assert agreement["plain"] == 1
    assert agreement["literal"] >= 0.999
    assert 0.5 < agreement["plain+bf16"] <= 1


def test_peak_memory_stands_in_the_report_with_what_could_not_be_measured(tiny_run) -> None:
    result, output_dir = tiny_run
    size = result["sizes"]["64x96"]
    assert size["memory_mb"] == {
        "literal": {"freed blocks returned": 486.0, "glibc's defaults": 536.0},
        "plain": {"freed blocks returned": 150.0, "glibc's defaults": 200.0},
    }
    assert size["memory_not_measured"] == {"plain+bf16": "no /proc here"}
    report = (output_dir / "benchmark.md").read_text()
    assert "| plain | freed blocks returned | 150 MB |" in report
    assert "| plain | glibc's defaults | 200 MB |" in report
    assert "no /proc here" in report


def test_peak_memory_of_full_inference_in_a_fresh_process(tmp_path) -> None:
    tiny_model().save_pretrained(tmp_path)
    YosoImageProcessor().save_pretrained(tmp_path)
    case = Case(PHOTO, (128, 160), (480, 800))
    megabytes = measure_inference_memory(tmp_path, "literal", case, CPU, threads=1)
    masks_mb = 10 * 480 * 800 * 4 / 1e6
    assert masks_mb < megabytes < 300
    with pytest.raises(MemoryNotMeasuredError, match="float16"):
        measure_inference_memory(tmp_path, "plain+fp16", case, CPU, threads=1)


def test_report_has_summary_settings_profile_and_plot(tiny_run) -> None:
    result, output_dir = tiny_run
    report = (output_dir / "benchmark.md").read_text()
    for row in ROWS:
        assert f"| {row.title} |" in report
    for name in ("processor", "threads", "allocator", "torch"):
        assert str(result["environment"][name]) in report
    assert "## Profile of `plain` at 64x96" in report
    kernels = result["sizes"]["64x96"]["profile"]["plain"]
    assert any("conv" in kernel["name"] for kernel in kernels)
    assert 0 < sum(kernel["share"] for kernel in kernels) <= 1.0001
    with Image.open(output_dir / "benchmark.png") as plot:
        assert plot.width > 300


def test_wrong_options_are_refused_before_anything_is_measured(tmp_path, capsys) -> None:
    for words, message in (
        (["--variants", "quick"], "Unknown variant 'quick'"),
        (["--variants", "plain+bf16+fp16"], "Unknown variant"),
        (["--sizes", "500x800"], "multiples of 32"),
        (["--sizes", "512"], "HEIGHTxWIDTH"),
        (["--image", str(tmp_path / "none.jpg")], "none.jpg does not exist"),
        (["--compare", str(tmp_path / "none.json")], "none.json does not exist"),
    ):
        with pytest.raises(SystemExit) as stopped:
            command.main(["--image", str(PHOTO), "--skip_accuracy", *words])
        assert stopped.value.code == 2
        assert message in capsys.readouterr().err


# Summary


def test_summary_computes_the_promised_ratios_from_one_run() -> None:
    times = {
        ("fused", "forward"): [160.0, 340.0],
        ("fused+bf16", "forward"): [80.0, 170.0],
        ("limit", "forward"): [100.0, 200.0],
        ("literal", "forward"): [400.0, 800.0],
        ("mask2former", "forward"): [1600.0, 3400.0],
        ("maskformer", "forward"): [320.0, 680.0],
        ("fused", "end to end"): [200.0, 400.0],
        ("literal", "end to end"): [500.0, 1000.0],
        ("fused", "post-processing"): [10.0, 10.0],
        ("literal", "post-processing"): [40.0, 40.0],
    }
    memory_mb = {"fused": {"freed blocks returned": 140.0, "glibc's defaults": 160.0}}
    lines = summarise({"512x800": Measurements(times, memory_mb, "bf16")}, on_gpu=False)
    found = {line["title"]: (line["ours"], line["target"], line["reached"]) for line in lines["512x800"]}
    assert found == {
        "forward fp32 / limit": (pytest.approx(1.65), 1.68, True),
        "end to end (tensor -> id map at original size) / literal": (pytest.approx(0.4), 0.40, True),
        "forward bf16 / forward fp32": (pytest.approx(0.5), 0.57, True),
        "forward / Mask2Former R50": (pytest.approx(0.1), 0.20, True),
        "forward / MaskFormer R50": (pytest.approx(0.5), 0.62, True),
        "post-processing / literal (20 of 100 kept)": (pytest.approx(0.25), 0.20, False),
        "extra peak memory, full inference, freed blocks returned": (140.0, 150, True),
        "extra peak memory, full inference, glibc's defaults": (160.0, 150, False),
    }
    assert lines["512x800"][0]["literal"] == pytest.approx(4.0)


def test_gpu_summary_has_rates_and_speedups_of_the_fastest_form() -> None:
    times = {
        ("fused", "forward"): [4.0],
        ("fused+fp16+compiled", "forward"): [1.25],
        ("fused+fp16+compiled", "from decoded image"): [2.0],
        ("eomt-s+fp16+compiled", "forward"): [2.5],
        ("mask2former", "forward"): [20.0],
    }
    lines = summarise({"512x800": Measurements(times, {}, "fp16")}, on_gpu=True)["512x800"]
    found = {line["title"]: (line["ours"], line["reached"]) for line in lines if line["at_least"]}
    assert found == {
        "forward": (800, True),
        "end to end from decoded image": (500, True),
        "times as fast as EoMT-S 640x640": (pytest.approx(2.0), True),
        "times as fast as Mask2Former R50": (pytest.approx(16.0), True),
    }


# Regression check


def saved_run(fused: float, device: str = "cpu") -> dict:
    times = {("fused", "forward"): [fused, fused], ("limit", "forward"): [100.0, 100.0], ("shared", "decode"): [9, 9]}
    return {"environment": {"device": device}, "ratios": {"512x800": ratios_to_reference(times)}}


def test_regression_check_names_what_got_slower_by_more_than_the_tolerance() -> None:
    comparison = compare_runs(saved_run(190.0), saved_run(170.0), tolerance=1.1)
    assert list(comparison.slower.values()) == [(1.7, 1.9)]
    assert "SLOWER 1.12x: 512x800: fused / forward" in describe(comparison, 1.1)
    assert not compare_runs(saved_run(186.0), saved_run(170.0), tolerance=1.1).slower
    assert not compare_runs(saved_run(100.0), saved_run(170.0), tolerance=1.1).slower


def test_regression_check_names_what_was_not_measured_again() -> None:
    saved = saved_run(170.0)
    saved["ratios"]["512x800"]["onnx / forward per limit forward"] = 2.0
    comparison = compare_runs(saved_run(170.0), saved, tolerance=1.1)
    assert comparison.missing == ["512x800: onnx / forward per limit forward"]
    assert "not measured now: 512x800: onnx" in describe(comparison, 1.1)


def test_regression_check_refuses_what_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="cuda"):
        compare_runs(saved_run(170.0), saved_run(170.0, device="cuda"), tolerance=1.1)
    with pytest.raises(ValueError, match="no `ratios`"):
        compare_runs(saved_run(170.0), {}, tolerance=1.1)
    with pytest.raises(ValueError, match="tolerance"):
        compare_runs(saved_run(170.0), saved_run(170.0), tolerance=0.9)
    with pytest.raises(ValueError, match="in common"):
        compare_runs(saved_run(170.0), saved_run(170.0) | {"ratios": {}}, tolerance=1.1)


def test_command_exits_with_1_when_slower_than_a_saved_run(tiny_run, tmp_path, monkeypatch, capsys) -> None:
    result, _ = tiny_run
    faster = {size: {name: ratio / 2 for name, ratio in ratios.items()} for size, ratios in result["ratios"].items()}
    saved = tmp_path / "saved.json"
    saved.write_text(json.dumps(result | {"ratios": faster}))
    monkeypatch.setattr(command, "run_benchmark", lambda options: iter([result]))
    words = ["--image", str(PHOTO), "--skip_accuracy", "--allocator", "default", "--output_dir", str(tmp_path)]
    with pytest.raises(SystemExit) as stopped:
        command.main([*words, "--compare", str(saved)])
    assert stopped.value.code == 1
    assert "SLOWER 2.00x: 64x96: plain / forward" in capsys.readouterr().out
    saved.write_text(json.dumps(result))
    command.main([*words, "--compare", str(saved)])
    assert "nothing got slower" in capsys.readouterr().out


# Pieces


def test_tasks_are_interleaved_round_by_round() -> None:
    order = []
    tasks = {name: lambda name=name: order.append(name) for name in "ab"}
    times = time_interleaved(tasks, CPU, rounds=3, warmup_rounds=1)
    assert "".join(order) == "abababab"
    assert [len(values) for values in times.values()] == [3, 3]
    with pytest.raises(ValueError, match="rounds"):
        time_interleaved(tasks, CPU, rounds=0)


def test_ratio_of_rounds_is_not_touched_by_drift() -> None:
    assert median_ratio([10, 20, 400], [20, 40, 800]) == 0.5


def test_extra_peak_memory_sees_a_temporary_of_known_size() -> None:
    megabytes = extra_peak_mb(lambda: torch.ones(20_000_000).sum(), CPU)
    assert 75 <= megabytes <= 120
    assert extra_peak_mb(lambda: None, CPU) < 10


def test_limit_equals_the_unfolded_backbone() -> None:
    backbone = timm.create_model("resnet18", features_only=True).eval()
    generator = torch.Generator().manual_seed(0)
    for module in backbone.modules():
        if hasattr(module, "running_var"):
            randomise_norm(module, generator)
    pixel_values = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = backbone(pixel_values)
        found = peers.fold_norms(backbone)(pixel_values)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in backbone.modules())
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_measured_case_keeps_20_of_100_queries() -> None:
    class_logits, mask_logits = blob_logits(num_queries=100, num_labels=133, grid=(32, 48))
    scores, labels = class_logits[0].softmax(-1).max(-1)
    assert ((scores > 0.7) & (labels < 133)).sum() == KEPT_QUERIES
    covered = (mask_logits[0] > 0).float().mean((1, 2))
    assert covered.min() > 0 and covered.max() < 0.5


def test_random_model_keeps_as_many_queries_of_the_photo_as_asked() -> None:
    model = tiny_model(num_queries=30)
    processor = YosoImageProcessor()
    pixel_values = Case(PHOTO, (64, 96), (50, 100)).preprocess(read_original(), processor)
    fit_to_photo(model, pixel_values, threshold=0.7, kept=8)
    with torch.no_grad():
        outputs = model(pixel_values)
    scores, labels = outputs.class_queries_logits[0].softmax(-1).max(-1)
    assert ((scores > 0.7) & (labels < 6)).sum() == 8
    assert outputs.masks_queries_logits.mean((2, 3)).abs().max() < outputs.masks_queries_logits.std()


def read_original() -> torch.Tensor:
    return Case(PHOTO, (64, 96), (50, 100)).original()


def test_sizes_are_read_and_checked() -> None:
    assert parse_size("512x800", 32) == (512, 800)
    assert parse_size("480x801") == (480, 801)
    for text in ("512", "ax3", "0x32", "500x800"):
        with pytest.raises(ValueError, match="x"):
            parse_size(text, 32)


def test_variant_without_its_package_says_so(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers_yoso.export", None)
    name = registry.VariantName.parse("onnx")
    with pytest.raises(UnavailableError, match="export"):
        registry.build_variant(name, tiny_model(), YosoImageProcessor(), CPU)


def test_accuracy_of_the_plain_model_against_itself_is_full() -> None:
    model, processor = tiny_model(), YosoImageProcessor(size={"shortest_edge": 64}, overlap_mask_area_threshold=0.0)
    fit_to_photo(model, Case(PHOTO, (64, 128), (50, 100)).preprocess(read_original(), processor), 0.7, kept=5)
    plain = PlainVariant(model, processor, Settings(CPU))
    half = PlainVariant(model, processor, Settings(CPU, torch.bfloat16))
    scores = measure_accuracy(
        plain, {"plain": plain, "bf16": half}, [(read_original(), None)], model.config, processor
    )
    assert scores["plain"] == {"equal_segments": 1.0, "equal_classes": 1.0, "pq": None}
    assert 0 < scores["bf16"]["equal_classes"] <= 1


def test_accuracy_measures_panoptic_quality_where_the_truth_is_known() -> None:
    model, processor = tiny_model(), YosoImageProcessor(size={"shortest_edge": 64}, overlap_mask_area_threshold=0.0)
    photo = read_original()
    fit_to_photo(model, Case(PHOTO, (64, 128), (50, 100)).preprocess(photo, processor), 0.7, kept=5)
    plain = PlainVariant(model, processor, Settings(CPU))
    result = segment(plain, photo, processor)
    sample = PanopticSample(
        image=photo,
        segment_map=result["segmentation"] - 1,
        class_labels=torch.tensor([info["label_id"] for info in result["segments_info"]]),
        is_crowd=torch.zeros(len(result["segments_info"]), dtype=torch.bool),
        image_id=0,
        file_name="photo",
    )
    assert sample.num_segments > 1
    scores = measure_accuracy(plain, {"plain": plain}, [(photo, sample)], model.config, processor)
    assert scores["plain"]["pq"] == pytest.approx(1.0)


def test_class_map_gives_every_segment_its_class() -> None:
    segmentation = torch.tensor([[0, 1], [2, 1]], dtype=torch.int32)
    result = {"segmentation": segmentation, "segments_info": [{"id": 1, "label_id": 7}, {"id": 2, "label_id": 3}]}
    assert class_map(result).tolist() == [[-1, 7], [3, 7]]


def test_straight_loss_equals_ours_with_the_same_points() -> None:
    case = LossCase(num_segments=7, image_size=64)
    torch.manual_seed(0)
    predictions = case.predictions()
    maps, labels = case.id_maps(), case.class_labels()
    labels[1] = labels[1][:3]
    masks = [binary_masks(ids, len(classes)) for ids, classes in zip(maps, labels, strict=True)]
    criterion = coco_criterion()
    criterion.num_points = criterion.matcher.num_points = 128
    torch.manual_seed(1)
    ours = criterion(**predictions, mask_labels=maps, class_labels=labels, canvas_size=(64, 64))
    torch.manual_seed(1)
    straight = straight_loss.StraightCriterion(criterion)(**predictions, mask_labels=masks, class_labels=labels)
    assert {name: loss.item() for name, loss in straight.items()} == pytest.approx(
        {name: loss.item() for name, loss in ours.items()}, rel=1e-4
    )
    gradients = [torch.autograd.grad(sum(losses.values()), predictions["mask_logits"]) for losses in (ours, straight)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)
