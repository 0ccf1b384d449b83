"""Auto classes and pipeline: with the package, without it, and beside Transformers' language model of the same name."""

import json
import logging
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageSegmentation,
    AutoModelForUniversalSegmentation,
    TimmBackboneConfig,
    pipeline,
)

from transformers_yoso import (
    YosoConfig,
    YosoForUniversalSegmentation,
    YosoImageProcessor,
    YosoImageProcessorPil,
    YosoImageSegmentationPipeline,
    YosoModel,
)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random model whose classes are sure enough to pass its low threshold, but not Transformers' 0.9.

    All pixels lie far inside of its hard masks, so that rounding, which differs between runs, cannot flip any.
    """
    torch.manual_seed(0)
    config = YosoConfig(
        backbone_config=TimmBackboneConfig(backbone="resnet18", out_indices=[1, 2, 3, 4]),
        hidden_dim=32,
        aggregation_dim=16,
        feedforward_dim=64,
        num_attention_heads=4,
        num_queries=20,
        num_stages=1,
        temperature=1.0,
        id2label={0: "person", 1: "car", 2: "sky"},
        stuff_label_ids=[2],
    )
    model = YosoForUniversalSegmentation(config).eval()
    model.model.decoder.proposal_kernels.bias.data.fill_(100.0)
    model.class_branches[-1].classifier.bias.data = torch.tensor([0.0, 0.0, 1.5, 0.0])
    folder = tmp_path_factory.mktemp("yoso")
    model.save_pretrained(folder)
    processor = YosoImageProcessor(
        size={"shortest_edge": 128, "longest_edge": 192},
        threshold=0.3,
        overlap_mask_area_threshold=0.01,
        label_ids_to_fuse=[2],
    )
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def photo(shared_dir: Path) -> Image.Image:
    return Image.open(shared_dir / "data/coco_panoptic_sample/val2017/000000142238.jpg")


def test_auto_classes_open_a_folder(model_folder: Path) -> None:
    assert type(AutoConfig.from_pretrained(model_folder)) is YosoConfig
    assert type(AutoModel.from_pretrained(model_folder)) is YosoModel
    assert type(AutoModelForUniversalSegmentation.from_pretrained(model_folder)) is YosoForUniversalSegmentation
    assert type(AutoModelForImageSegmentation.from_pretrained(model_folder)) is YosoForUniversalSegmentation
    assert type(AutoImageProcessor.from_pretrained(model_folder)) is YosoImageProcessor
    assert type(AutoImageProcessor.from_pretrained(model_folder, backend="pil")) is YosoImageProcessorPil


def test_base_model_shares_the_weights_of_the_full_model(model_folder: Path) -> None:
    base = AutoModel.from_pretrained(model_folder)
    full = AutoModelForUniversalSegmentation.from_pretrained(model_folder)
    for name, parameter in base.state_dict().items():
        torch.testing.assert_close(parameter, full.model.state_dict()[name], rtol=0, atol=0)


@pytest.mark.parametrize("by_object", [False, True])
def test_pipeline_uses_the_checkpoints_thresholds_and_stuff_labels(
    model_folder: Path, photo: Image.Image, by_object: bool, caplog: pytest.LogCaptureFixture
) -> None:
    transformers.utils.logging.enable_propagation()
    try:
        with caplog.at_level(logging.WARNING):
            if by_object:
                model = AutoModelForUniversalSegmentation.from_pretrained(model_folder)
                processor = AutoImageProcessor.from_pretrained(model_folder)
                segmenter = pipeline("image-segmentation", model=model, image_processor=processor)
            else:
                segmenter = pipeline("image-segmentation", model=str(model_folder))
            segments = segmenter(photo)
    finally:
        transformers.utils.logging.disable_propagation()
    assert caplog.messages == []
    assert isinstance(segmenter, YosoImageSegmentationPipeline)
    assert segmenter.tokenizer is None

    processor = AutoImageProcessor.from_pretrained(model_folder)
    model = AutoModelForUniversalSegmentation.from_pretrained(model_folder)
    with torch.no_grad():
        outputs = model(**processor(photo, return_tensors="pt"))
    (expected,) = processor.post_process_panoptic_segmentation(outputs, target_sizes=[(photo.height, photo.width)])
    assert [segment["label"] for segment in segments] == [
        model.config.id2label[info["label_id"]] for info in expected["segments_info"]
    ]
    assert [segment["label"] for segment in segments].count("sky") == 1
    assert segments[0]["mask"].size == photo.size
    assert segmenter(photo, threshold=0.99) == []


def test_pipeline_reads_16_bit_images_like_8_bit_ones(model_folder: Path, photo: Image.Image, tmp_path: Path) -> None:
    grey = np.asarray(photo.convert("L"))
    Image.fromarray(grey.astype(np.uint16) * 256 + 7).save(tmp_path / "deep.png")
    segmenter = pipeline("image-segmentation", model=str(model_folder))
    expected = segmenter.preprocess(Image.fromarray(grey))
    assert expected["pixel_values"].std() > 0.5
    for deep in (str(tmp_path / "deep.png"), Image.open(tmp_path / "deep.png")):
        torch.testing.assert_close(segmenter.preprocess(deep)["pixel_values"], expected["pixel_values"])
        assert segmenter(deep)[0]["mask"].size == photo.size


def test_other_models_keep_transformers_pipeline() -> None:
    config = transformers.DetrConfig(
        backbone_config=TimmBackboneConfig(backbone="resnet18", out_indices=[1, 2, 3, 4]),
        d_model=64,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=8,
        decoder_attention_heads=8,
    )
    model = transformers.DetrForSegmentation(config)
    segmenter = pipeline("image-segmentation", model=model, image_processor=transformers.DetrImageProcessor())
    assert type(segmenter) is transformers.ImageSegmentationPipeline
    assert segmenter._sanitize_parameters(threshold=0.5)[2] == {"threshold": 0.5}


def test_language_model_of_the_same_name_still_works() -> None:
    config = AutoConfig.for_model("yoso", hidden_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=30)
    assert type(config) is transformers.models.yoso.configuration_yoso.YosoConfig
    model = AutoModel.from_config(config)
    assert type(model) is transformers.YosoModel
    assert model(torch.tensor([[1, 2, 3]])).last_hidden_state.shape == (1, 3, 16)
    assert type(transformers.AutoModelForMaskedLM.from_config(config)) is transformers.YosoForMaskedLM


def test_folder_opens_without_the_package(model_folder: Path, shared_dir: Path, tmp_path: Path) -> None:
    """A fresh interpreter that cannot import the package gets the same segments through `trust_remote_code`."""
    photo = shared_dir / "data/coco_panoptic_sample/val2017/000000142238.jpg"
    script = textwrap.dedent(
        """
        import importlib.abc, json, sys

        class Block(importlib.abc.MetaPathFinder):
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] == "transformers_yoso":
                    raise ImportError("the package is not installed here")

        sys.meta_path.insert(0, Block())
        from transformers import (
            AutoImageProcessor, AutoModel, AutoModelForImageSegmentation, AutoModelForUniversalSegmentation, pipeline
        )

        folder, photo = sys.argv[1:]
        trust = {"trust_remote_code": True}
        segmenter = pipeline("image-segmentation", model=folder, **trust)
        found = [[(s["label"], round(s["score"], 3)) for s in segmenter(photo)]]
        model = AutoModelForUniversalSegmentation.from_pretrained(folder, **trust)
        processor = AutoImageProcessor.from_pretrained(folder, **trust)
        segmenter = pipeline("image-segmentation", model=model, image_processor=processor)
        found.append([(s["label"], round(s["score"], 3)) for s in segmenter(photo)])
        names = [type(AutoModel.from_pretrained(folder, **trust)).__name__, type(processor).__name__]
        model.save_pretrained(folder + "-again")
        processor.save_pretrained(folder + "-again")
        AutoModelForImageSegmentation.from_pretrained(folder + "-again", **trust)
        print(json.dumps({"found": found, "names": names}))
        """
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(tmp_path / "modules")}
    process = subprocess.run(
        [sys.executable, "-c", script, str(model_folder), str(photo)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr
    assert "not supported" not in process.stderr
    result = json.loads(process.stdout.splitlines()[-1])
    segments = pipeline("image-segmentation", model=str(model_folder))(str(photo))
    assert segments
    assert result["names"] == ["YosoModel", "YosoImageProcessor"]
    for found in result["found"]:
        assert [label for label, _ in found] == [segment["label"] for segment in segments]
        assert [score for _, score in found] == pytest.approx([segment["score"] for segment in segments], abs=2e-3)


def test_auto_classes_open_a_folder_without_a_warning(model_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    transformers.utils.logging.enable_propagation()
    try:
        with caplog.at_level(logging.WARNING):
            for auto_class in (AutoConfig, AutoModel, AutoModelForUniversalSegmentation, AutoImageProcessor):
                auto_class.from_pretrained(model_folder)
    finally:
        transformers.utils.logging.disable_propagation()
    assert caplog.messages == []
