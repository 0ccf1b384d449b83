"""Export to ONNX: the file gives what torch gives, refuses what it cannot, and runs without torch."""

import json
import subprocess
import sys
import textwrap

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from tiny_yoso import tiny_model
from transformers_yoso.export import OnnxPredictor, ParityError, export_onnx, onnx_export, quantize_onnx
from transformers_yoso.export.composition import OPSET_VERSION
from transformers_yoso.export.deformable_sampling import DEFORMABLE_CONVOLUTIONS
from transformers_yoso.export.network_graph import inference_copy, network_graph
from transformers_yoso.export.panoptic_graph import panoptic_graph
from transformers_yoso.export.parity import relative_error
from transformers_yoso.models.image_processing_pil_yoso import YosoImageProcessorPil
from transformers_yoso.models.image_processing_yoso import YosoImageProcessor
from transformers_yoso.models.modulated_deformable_conv import modulated_deform_conv2d

SIZE = {"shortest_edge": 100, "longest_edge": 150}


@pytest.fixture(scope="module")
def model():
    """Random weights, but queries of different classes."""
    model = tiny_model(num_stages=1)
    with torch.no_grad():
        model.class_branches[-1].classifier.weight.mul_(50)
    return model


@pytest.fixture(scope="module")
def image_processor():
    return YosoImageProcessorPil(size=SIZE, threshold=0.0, overlap_mask_area_threshold=0.05, label_ids_to_fuse=[5])


@pytest.fixture(scope="module")
def network(model):
    """The traced network, which takes most of an export's time."""
    return network_graph(inference_copy(model), "native", OPSET_VERSION).SerializeToString()


@pytest.fixture(scope="module")
def traced_once(network):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_export, "network_graph", lambda *arguments: onnx.load_from_string(network))
        yield


@pytest.fixture(scope="module")
def exported(model, image_processor, tmp_path_factory, traced_once):
    """A tiny model's file."""
    return export_onnx(model, image_processor, tmp_path_factory.mktemp("onnx") / "model.onnx")


@pytest.fixture(scope="module")
def photo(shared_dir):
    path = next((shared_dir / "data" / "coco_panoptic_sample").rglob("*.jpg"))
    return Image.open(path).convert("RGB")


@pytest.fixture(scope="module")
def expected(model, image_processor, photo):
    inputs = image_processor(photo, return_tensors="pt")
    with torch.no_grad():
        outputs = model(**inputs)
    (result,) = image_processor.post_process_panoptic_segmentation(outputs, target_sizes=[photo.size[::-1]])
    return outputs, result


def test_predictor_equals_processor_and_model(exported, photo, expected):
    _, wanted = expected
    result = OnnxPredictor(exported)(photo)
    assert len(wanted["segments_info"]) > 1
    assert result["segmentation"].dtype == np.int32
    assert (torch.from_numpy(result["segmentation"]) == wanted["segmentation"]).float().mean() > 0.99
    found = [(info["id"], info["label_id"], info["was_fused"]) for info in result["segments_info"]]
    assert found == [(info["id"], info["label_id"], info["was_fused"]) for info in wanted["segments_info"]]
    assert sum(info["area"] for info in result["segments_info"]) == (result["segmentation"] > 0).sum()


def test_raw_logits(exported, photo, expected):
    outputs, _ = expected
    predictor = OnnxPredictor(exported)
    inputs = predictor.graph_inputs(predictor.preprocess(photo), (10, 10))
    for name in ("class_queries_logits", "masks_queries_logits"):
        (logits,) = predictor.session.run([name], inputs)
        assert relative_error(torch.from_numpy(logits), outputs[name]) < 1e-2


def test_pixel_values_equal_the_image_processors(exported, image_processor, photo):
    found = OnnxPredictor(exported).preprocess(photo)
    wanted = image_processor(photo, return_tensors="np", do_pad=False)["pixel_values"]
    np.testing.assert_array_equal(found, wanted)


def test_batch_equals_each_alone(exported, photo):
    predictor = OnnxPredictor(exported)
    first = predictor.preprocess(photo)
    batch = np.concatenate((first, first[..., ::-1]))
    together = predictor.session.run(None, predictor.graph_inputs(batch, (80, 90)))
    for index, pixel_values in enumerate(batch):
        alone = predictor.session.run(None, predictor.graph_inputs(pixel_values[None], (80, 90)))
        assert (alone[0][0] == together[0][index]).mean() > 0.99
        np.testing.assert_array_equal(alone[1][0, :, :3], together[1][index, :, :3])


def test_thresholds_change_without_another_export(exported, photo):
    predictor = OnnxPredictor(exported)
    few, many = predictor(photo, threshold=1.0), predictor(photo, threshold=0.0)
    assert few["segments_info"] == [] and not few["segmentation"].any()
    assert len(many["segments_info"]) > 1
    with pytest.raises(ValueError, match=r"`threshold` must lie in \[0, 1\]"):
        predictor(photo, threshold=90)


def test_target_size(exported, photo):
    predictor = OnnxPredictor(exported)
    assert predictor(photo, target_size=(33, 44))["segmentation"].shape == (33, 44)
    with pytest.raises(ValueError, match="target_size"):
        predictor(photo, target_size=(0, 44))


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "I;16", "array"])
def test_any_photo_is_read_as_by_the_image_processor(exported, image_processor, photo, mode):
    small = photo.resize((64, 48))
    if mode == "array":
        image = np.asarray(small)
    elif mode == "I;16":
        image = Image.fromarray(np.asarray(small.convert("L")).astype(np.uint16) * 257)
    else:
        image = small.convert(mode)
    wanted = image_processor(image, return_tensors="np", do_pad=False)["pixel_values"]
    np.testing.assert_array_equal(OnnxPredictor(exported).preprocess(image), wanted)


def test_predict_without_torch(exported, photo, tmp_path):
    """The file beside the model, alone, where importing torch, transformers or the package fails."""
    photo.save(tmp_path / "photo.png")
    script = """
        import json, runpy, sys
        for name in ("torch", "torchvision", "transformers", "transformers_yoso"):
            sys.modules[name] = None
        predict = runpy.run_path(sys.argv[1])
        result = predict["OnnxPredictor"](sys.argv[2])(sys.argv[3])
        assert result["segmentation"].any()
        print(json.dumps(result["segments_info"]))
        sys.argv = ["predict.py", *sys.argv[2:4], "--output", sys.argv[4]]
        predict["main"]()
    """
    arguments = [exported.with_name("predict.py"), exported, tmp_path / "photo.png", tmp_path / "segments.png"]
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert run.returncode == 0, run.stderr
    segments = json.loads(run.stdout.splitlines()[0])
    assert segments == OnnxPredictor(exported)(photo)["segments_info"]
    assert Image.open(tmp_path / "segments.png").size == photo.size


def test_int8_keeps_the_interface(exported, photo, tmp_path):
    path = quantize_onnx(exported, tmp_path / "int8.onnx", [photo, photo.rotate(20)])
    assert path.stat().st_size < 0.75 * exported.stat().st_size
    exact, quantized = OnnxPredictor(exported), OnnxPredictor(path)
    assert quantized.id2label == exact.id2label
    assert quantized(photo)["segmentation"].shape == photo.size[::-1]
    inputs = exact.graph_inputs(exact.preprocess(photo), (10, 10))
    logits = [
        torch.from_numpy(predictor.session.run(["masks_queries_logits"], inputs)[0])
        for predictor in (quantized, exact)
    ]
    assert 0 < relative_error(*logits) < 0.5
    with pytest.raises(ValueError, match="empty"):
        quantize_onnx(exported, tmp_path / "other.onnx", [])
    with pytest.raises(ValueError, match="must not be the file"):
        quantize_onnx(exported, exported, [photo])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"output_path": "model.pt"}, "must end with '.onnx'"),
        ({"deformable_conv": "cuda"}, r"must be one of \['native', 'grid_sample'\]"),
        ({"do_resize": False}, "do_resize=False"),
        ({"do_normalize": False}, "do_normalize=False"),
        ({"resample": 3}, "only bilinear"),
        ({"pad_size": {"height": 128, "width": 128}}, "pad_size"),
        ({"label_ids_to_fuse": [77]}, r"\[77\]"),
    ],
)
def test_what_cannot_be_exported_is_refused(model, tmp_path, changes, message):
    arguments = {name: changes.pop(name) for name in ("output_path", "deformable_conv") if name in changes}
    arguments = {"output_path": tmp_path / "model.onnx", **arguments}
    with pytest.raises(ValueError, match=message):
        export_onnx(model, YosoImageProcessor(size=SIZE, **changes), **arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("traced_once")
def test_a_file_that_disagrees_with_torch_is_not_kept(image_processor, tmp_path):
    """Other weights in torch than in the traced graph."""
    other = tiny_model(num_stages=1)
    with torch.no_grad():
        other.model.feature_pyramid_aggregator.output_conv.weight.mul_(1.5)
    with pytest.raises(ParityError, match="differ from torch's"):
        export_onnx(other, image_processor, tmp_path / "folder" / "model.onnx")
    assert list((tmp_path / "folder").iterdir()) == []


def test_no_export_is_told_apart(tmp_path):
    with pytest.raises(FileNotFoundError, match="no ONNX file"):
        OnnxPredictor(tmp_path / "none.onnx")
    onnx.save(panoptic_graph(), tmp_path / "other.onnx")
    with pytest.raises(ValueError, match="no YOSO model"):
        OnnxPredictor(tmp_path / "other.onnx")


def test_missing_provider(exported):
    with pytest.raises(ValueError, match="NoSuchProvider"):
        OnnxPredictor(exported, providers=["NoSuchProvider"])


def test_the_model_stays_as_it_is(model):
    training = tiny_model().train().half()
    copied = inference_copy(training)
    assert training.training and training.dtype == torch.float16
    assert not copied.training and copied.dtype == torch.float32
    pixel_values = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        found, wanted = copied(pixel_values), tiny_model().half().float()(pixel_values)
    torch.testing.assert_close(found.class_queries_logits, wanted.class_queries_logits)


@pytest.mark.parametrize("name", ["native", "grid_sample"])
@pytest.mark.parametrize("size", [(9, 14), (1, 1)])
def test_forms_of_the_deformable_convolution_are_equal(name, size):
    generator = torch.Generator().manual_seed(0)
    inputs, offsets, modulation = (
        torch.randn(2, channels, *size, generator=generator, dtype=torch.float64) for channels in (5, 18, 9)
    )
    weight = torch.randn(4, 5, 3, 3, generator=generator, dtype=torch.float64)
    arguments = inputs, 3 * offsets, modulation.sigmoid(), weight
    torch.testing.assert_close(DEFORMABLE_CONVOLUTIONS[name](*arguments), modulated_deform_conv2d(*arguments))
