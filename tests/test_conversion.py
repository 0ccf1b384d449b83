"""Conversion of official checkpoints: label tables, strict key mapping, and the converted folder."""

import ast
import json
import re
import runpy
import sys
import urllib.error
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file

from local_hub import LocalHub
from transformers_yoso.conversion import convert
from transformers_yoso.conversion.convert import released_config, released_image_processor
from transformers_yoso.conversion.dataset_specs import DATASET_SPECS, get_dataset_spec
from transformers_yoso.conversion.official_keys import BATCH_COUNTER, CLASS_WEIGHTS, convert_official_state_dict
from transformers_yoso.model_card import publishing
from transformers_yoso.models.backbone import backbone_features
from transformers_yoso.models.configuration_yoso import YosoConfig
from transformers_yoso.models.image_processing_yoso import YosoImageProcessor
from transformers_yoso.models.modeling_yoso import YosoForUniversalSegmentation
from transformers_yoso.visualization import named_colors

SCRIPT = Path(__file__).parent.parent / "scripts" / "convert_checkpoint.py"


# Label tables and settings


@pytest.mark.parametrize("name", DATASET_SPECS)
def test_label_table_has_the_classes_of_the_spec(name):
    spec = get_dataset_spec(name)
    assert list(spec.id2label) == list(range(spec.num_labels))
    assert len(set(spec.id2label.values())) == spec.num_labels
    assert all(label == label.strip() and label for label in spec.id2label.values())
    assert len(spec.stuff_label_ids) == spec.num_stuff
    assert len(spec.label_colors) == spec.num_labels
    assert all(len(color) == 3 and all(0 <= value <= 255 for value in color) for color in spec.label_colors)


def test_coco_labels_are_the_official_categories_things_first(shared_dir):
    path = shared_dir / "data" / "coco_panoptic_sample" / "panoptic_coco_categories.json"
    categories = sorted(json.loads(path.read_text()), key=lambda category: (not category["isthing"], category["id"]))
    spec = get_dataset_spec("coco")
    assert list(spec.id2label.values()) == [category["name"] for category in categories]
    assert spec.label_colors == [tuple(category["color"]) for category in categories]
    assert spec.stuff_label_ids == list(range(80, 133))


def test_label_order_of_the_other_datasets():
    cityscapes, ade20k, mapillary = (DATASET_SPECS[name] for name in ("cityscapes", "ade20k", "mapillary"))
    assert cityscapes.stuff_label_ids == list(range(11))
    assert [cityscapes.id2label[index] for index in (0, 10, 11, 18)] == ["road", "sky", "person", "bicycle"]
    assert [ade20k.id2label[index] for index in (0, 7, 90, 149)] == ["wall", "bed", "plane", "flag"]
    assert ade20k.stuff_label_ids[:9] == [0, 1, 2, 3, 4, 5, 6, 9, 11]
    assert [mapillary.id2label[index] for index in (0, 13, 55, 64)] == ["Bird", "Road", "Car", "Ego Vehicle"]
    assert mapillary.stuff_label_ids[:3] == [2, 3, 4]


def test_unknown_dataset_is_refused_by_name():
    with pytest.raises(ValueError, match=r"'lvis'.*coco"):
        get_dataset_spec("lvis")


def test_release_address():
    expected = "https://github.com/hujiecpp/YOSO/releases/download/v0.1/yoso_res50_ade20k.pth"
    assert DATASET_SPECS["ade20k"].checkpoint_url == expected


# Key mapping


def meta_model(name: str) -> YosoForUniversalSegmentation:
    with torch.device("meta"):
        return YosoForUniversalSegmentation(released_config(get_dataset_spec(name)))


def official_meta_tensors(shared_dir: Path, name: str) -> dict[str, torch.Tensor]:
    """Every name, shape and dtype of an official checkpoint, without values."""
    lines = (shared_dir / "reference" / f"official_keys_r50_{name}.txt").read_text().splitlines()
    rows = (line.split("\t") for line in lines)
    return {
        key: torch.empty(ast.literal_eval(shape), dtype=getattr(torch, dtype), device="meta")
        for key, shape, dtype, _ in rows
    }


@pytest.mark.parametrize("name", DATASET_SPECS)
def test_every_official_key_finds_its_place(shared_dir, name):
    model, official = meta_model(name), official_meta_tensors(shared_dir, name)
    converted = convert_official_state_dict(official, model)
    assert {key: value.shape for key, value in converted.items()} == {
        key: value.shape for key, value in model.state_dict().items()
    }
    # All but the class weights are used; the packed self-attention projection of a stage becomes three.
    assert len(converted) == len(official) - 1 + 2 * 2 * model.config.num_stages


def test_bad_keys_and_shapes_are_named(shared_dir):
    model, official = meta_model("coco"), official_meta_tensors(shared_dir, "coco")
    official["backbone.res2.0.conv4.weight"] = torch.zeros(1)
    official["yoso_head.mask_heads.2.fc_mask.bias"] = torch.zeros(256)
    del official["yoso_neck.loc_conv.bias"]
    official["yoso_neck.deconv.bias"] = torch.zeros(128)
    with pytest.raises(ValueError) as caught:
        convert_official_state_dict(official, model)
    message = str(caught.value)
    assert "left-over keys: backbone.res2.0.conv4.weight, yoso_head.mask_heads.2.fc_mask.bias;" in message
    assert "missing keys: yoso_neck.loc_conv.bias;" in message
    assert "other shapes: yoso_neck.deconv.bias (128,) instead of (1, 128, 1, 1)" in message


@pytest.mark.parametrize("name", DATASET_SPECS)
def test_missing_keys_have_their_official_names(shared_dir, name):
    optional = (CLASS_WEIGHTS, BATCH_COUNTER)
    needed = {key for key in official_meta_tensors(shared_dir, name) if not key.endswith(optional)}
    with pytest.raises(ValueError) as caught:
        convert_official_state_dict({}, meta_model(name))
    named = str(caught.value).partition("missing keys: ")[2].removesuffix(".").split(", ")
    assert sorted(named) == sorted(needed)


@pytest.mark.parametrize("shape", [(), (767, 256), (256, 256)])
def test_packed_projection_is_named_when_missing_or_of_another_shape(shared_dir, shape):
    model, official = meta_model("coco"), official_meta_tensors(shared_dir, "coco")
    key = "yoso_head.mask_heads.1.s_atten.in_proj_weight"
    official[key] = torch.zeros(shape)
    with pytest.raises(ValueError, match=re.escape(f"; other shapes: {key} {shape} instead of (768, 256).")):
        convert_official_state_dict(official, model)
    del official[key]
    with pytest.raises(ValueError, match=re.escape(f"; missing keys: {key}.")):
        convert_official_state_dict(official, model)
    official["yoso_head.mask_heads.7.s_atten.in_proj_bias"] = torch.zeros(768)
    with pytest.raises(ValueError, match=r"left-over keys: yoso_head\.mask_heads\.7\.s_atten\.in_proj_bias;"):
        convert_official_state_dict(official, model)


def test_checkpoint_of_another_dataset_is_refused(shared_dir):
    with pytest.raises(ValueError, match=r"right dataset\?.*fc_cls\.bias \(151,\) instead of \(134,\)"):
        convert_official_state_dict(official_meta_tensors(shared_dir, "ade20k"), meta_model("coco"))
    with pytest.raises(ValueError, match=r"left-over keys: .*cls_fcs\.3\.weight"):
        convert_official_state_dict(official_meta_tensors(shared_dir, "cityscapes"), meta_model("coco"))


def test_batch_counters_may_be_missing_or_of_no_use(shared_dir):
    model, official = meta_model("coco"), official_meta_tensors(shared_dir, "coco")
    neck_counter = "yoso_neck.deconv.deform_conv1.dcn_bn.num_batches_tracked"
    official[neck_counter] = torch.tensor(5)
    official["backbone.stem.conv1.norm.num_batches_tracked"] = torch.tensor(5)
    ours = "model.feature_pyramid_aggregator.pyramid.upsamplings.2.deformable_norm.num_batches_tracked"
    converted = convert_official_state_dict(official, model)
    assert converted[ours] == 5
    assert not any(key.startswith("model.backbone") and "num_batches" in key for key in converted)
    del official[neck_counter]
    assert convert_official_state_dict(official, model)[ours] == 0
    official["yoso_neck.unknown.num_batches_tracked"] = torch.tensor(5)
    with pytest.raises(ValueError, match=r"left-over keys: yoso_neck\.unknown\.num_batches_tracked"):
        convert_official_state_dict(official, model)


def test_saved_image_normalisation_is_checked(shared_dir):
    model, official = meta_model("coco"), official_meta_tensors(shared_dir, "coco")
    official["pixel_mean"] = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)
    official["pixel_std"] = torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1)
    assert set(convert_official_state_dict(official, model)) == set(model.state_dict())
    official["pixel_std"] = torch.ones(3, 1, 1)
    with pytest.raises(ValueError, match="pixel_std"):
        convert_official_state_dict(official, model)


# The whole conversion, on an official-format checkpoint made by the recipe of the reference outputs


def recipe_tensor(seed: int, name: str, shape: list[int]) -> torch.Tensor:
    if name.endswith("num_batches_tracked"):
        return torch.tensor(0)
    random = np.random.RandomState(zlib.crc32(f"{seed}:{name}".encode()))
    z = torch.from_numpy(random.standard_normal(shape).astype(np.float32))
    leaf = name.rpartition(".")[2]
    if leaf == "running_var":
        value = torch.exp(0.2 * z)
    elif len(shape) >= 2 and leaf != "bias":
        value = z * (1 / z[0].numel()) ** 0.5
    elif leaf == "weight":
        value = 1 + 0.1 * z
    else:
        value = 0.1 * z
    if name.endswith("conv3.norm.weight"):
        value *= 0.3
    if name.endswith("fc_cls.weight"):
        value *= 0.2
    return value


def run_script(monkeypatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, arguments)])
    runpy.run_path(str(SCRIPT), run_name="__main__")


@dataclass
class Converted:
    meta: dict
    tensors: dict[str, torch.Tensor]
    folder: Path


@pytest.fixture(scope="module")
def converted(shared_dir, tmp_path_factory) -> Converted:
    """Official-format checkpoint -> model folder, by the script, with an upload to a recording hub."""
    reference = shared_dir / "reference" / "r50_coco"
    meta = json.loads((reference / "meta.json").read_text())
    work_dir = tmp_path_factory.mktemp("r50_coco")
    state_dict = {name: recipe_tensor(meta["seed"], name, shape) for name, shape in meta["keys"].items()}
    torch.save({"model": state_dict}, work_dir / "official.pth")
    folder = work_dir / "yoso-resnet50-coco"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publishing, "HfApi", LocalHub)
        patch.setattr(LocalHub, "repositories", work_dir / "hub", raising=False)
        arguments = ("--checkpoint", work_dir / "official.pth", "--output_dir", folder, "--push_to_hub")
        run_script(patch, "--dataset", "coco", *arguments)
    (work_dir / "official.pth").unlink()
    return Converted(meta, load_file(reference / "tensors.safetensors"), folder)


@pytest.fixture(scope="module")
def outputs(converted):
    """The converted model's outputs for the reference image (padded, not resized)."""
    model = YosoForUniversalSegmentation.from_pretrained(converted.folder).eval()
    processor = YosoImageProcessor.from_pretrained(converted.folder)
    image = converted.tensors["in.image"].permute(2, 0, 1)
    inputs = processor(image, do_resize=False, return_tensors="pt")
    assert list(inputs["pixel_values"].shape[-2:]) == converted.meta["padded_size"]
    with torch.no_grad():
        backbone_maps = backbone_features(model.model.backbone, inputs["pixel_values"])
        return model(**inputs), backbone_maps


def assert_close(actual: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    assert actual.shape == expected.shape
    error = (actual - expected).abs().max() / expected.abs().max()
    assert error <= tolerance, f"max|a-b|/max|b| = {error:.2e}"


def test_converted_features_have_the_official_statistics(converted, outputs):
    segmented, backbone_maps = outputs
    maps = {f"c{level}": feature for level, feature in zip((2, 3, 4, 5), backbone_maps, strict=True)}
    maps["features"] = segmented.feature_map
    for name, feature in maps.items():
        values = feature[0].flatten(1)
        assert_close(values.mean(1), converted.tensors[f"out.{name}.mean"], 1e-3)
        assert_close(values.std(1), converted.tensors[f"out.{name}.std"], 1e-3)


def test_converted_logits_equal_the_official_ones(converted, outputs):
    segmented, _ = outputs
    assert_close(segmented.class_queries_logits[0], converted.tensors["out.class_logits"], 2e-2)
    assert_close(segmented.masks_queries_logits[0], converted.tensors["out.mask_logits"], 2e-2)


def test_converted_panoptic_map_equals_the_official_one(converted, outputs):
    processor = YosoImageProcessor.from_pretrained(converted.folder)
    target_size = tuple(converted.meta["original_size"])
    [result] = processor.post_process_panoptic_segmentation(outputs[0], target_sizes=[target_size])
    found = [(segment["id"], segment["label_id"]) for segment in result["segments_info"]]
    assert found == [(segment["id"], segment["category_id"]) for segment in converted.meta["segments_info"]]
    assert (result["segmentation"] == converted.tensors["out.panoptic"]).float().mean() >= 0.999


def test_converted_folder_carries_labels_and_settings(converted):
    spec = get_dataset_spec("coco")
    names = {path.name for path in converted.folder.iterdir()}
    assert {"config.json", "preprocessor_config.json", "model.safetensors", "README.md"} <= names
    config = YosoConfig.from_pretrained(converted.folder)
    assert config.id2label == spec.id2label
    assert config.label2id == {label: index for index, label in spec.id2label.items()}
    assert list(config.stuff_label_ids) == spec.stuff_label_ids
    assert named_colors(config.id2label, config.label_colors) == dict(enumerate(spec.label_colors))
    assert (config.temperature, config.num_queries) == (spec.temperature, spec.num_queries)
    processor = YosoImageProcessor.from_pretrained(converted.folder)
    assert processor.threshold == spec.object_threshold
    assert processor.overlap_mask_area_threshold == spec.overlap_threshold
    assert list(processor.label_ids_to_fuse) == spec.stuff_label_ids
    card = (converted.folder / "README.md").read_text()
    assert "license: mit" in card
    assert "official.pth" in card
    assert "{" not in card
    metadata = ModelCard(card).data
    assert [result.metric_value for result in metadata.eval_results] == [48.4, 46.4]
    assert {result.source_url for result in metadata.eval_results} == {"https://arxiv.org/abs/2303.14651"}
    assert "not measured here: PQ 48.4 (validation split, test size 800, 1333)" in card
    assert "PQ, SQ and RQ: not measured." in card


def test_push_to_hub_uploads_the_folder_under_its_name(converted):
    uploaded = converted.folder.parent / "hub" / "user" / "yoso-resnet50-coco"
    assert {path.name for path in uploaded.iterdir()} == {path.name for path in converted.folder.iterdir()}


@pytest.mark.parametrize("name", DATASET_SPECS)
def test_processor_carries_the_settings_of_the_dataset(name):
    spec = get_dataset_spec(name)
    processor = released_image_processor(spec)
    assert dict(processor.size) == {"shortest_edge": spec.shortest_edge, "longest_edge": spec.longest_edge}
    assert processor.threshold == spec.object_threshold
    assert processor.overlap_mask_area_threshold == spec.overlap_threshold
    assert list(processor.label_ids_to_fuse) == spec.stuff_label_ids


def test_script_reports_a_refused_file_and_writes_nothing(tmp_path, monkeypatch):
    torch.save({"model": torch.nn.Linear(2, 2)}, tmp_path / "module.pth")
    folder = tmp_path / "out"
    with pytest.raises(SystemExit, match=r"Not converted: .*needs code to be unpickled"):
        run_script(monkeypatch, "--dataset", "coco", "--checkpoint", tmp_path / "module.pth", "--output_dir", folder)
    assert not folder.exists()


def test_script_refuses_a_repository_name_without_push(tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run_script(monkeypatch, "--dataset", "coco", "--output_dir", tmp_path, "--hub_model_id", "user/model")
    assert "--push_to_hub" in capsys.readouterr().err


def test_default_checkpoint_is_the_release(tmp_path, monkeypatch):
    asked = []

    def offline(url, *args, **kwargs):
        asked.append(url)
        raise urllib.error.URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(ConnectionError, match="no route to host"):
        convert.convert_checkpoint("mapillary", tmp_path / "out")
    assert asked == [DATASET_SPECS["mapillary"].checkpoint_url]
