"""YosoConfig: defaults of the paper, refusal of what cannot work, and saving."""

import json
from pathlib import Path

import pytest
import torch
from huggingface_hub.errors import StrictDataclassFieldValidationError
from transformers import ResNetConfig, TimmBackboneConfig

from tiny_yoso import tiny_config
from transformers_yoso import YosoConfig, YosoForUniversalSegmentation


def test_defaults_are_the_papers_resnet50_for_coco() -> None:
    config = YosoConfig(num_labels=133, stuff_label_ids=list(range(80, 133)))
    assert (config.num_queries, config.num_stages, config.dynamic_kernel_size) == (100, 2, 3)
    assert (config.hidden_size, config.num_hidden_layers) == (256, 2)
    assert (config.num_class_layers, config.num_mask_layers, config.temperature) == (1, 1, 0.05)
    assert config.backbone_config.backbone == "resnet50"
    assert config.backbone_config.freeze_batch_norm_2d
    with torch.device("meta"):
        model = YosoForUniversalSegmentation(config)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert round(parameters / 1e6, 1) == 42.0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(
            (name, 0)
            for name in ("aggregation_dim", "hidden_dim", "num_queries", "num_stages", "num_attention_blocks")
        ),
        *((name, 0) for name in ("num_attention_heads", "feedforward_dim", "train_num_points")),
        *((name, -1) for name in ("num_class_layers", "num_mask_layers", "class_weight", "mask_weight")),
        *((name, -0.5) for name in ("dice_weight", "no_object_weight", "init_std", "temperature")),
        *((name, float("nan")) for name in ("temperature", "mask_weight", "oversample_ratio")),
        ("temperature", 0),
        ("dynamic_kernel_size", 2),
        ("dynamic_kernel_size", -1),
        ("num_attention_heads", 7),
        ("oversample_ratio", 0.5),
        ("importance_sample_ratio", 1.5),
        ("importance_sample_ratio", -0.1),
        ("pyramid_channels", [8, 16, 24]),
        ("pyramid_channels", [8, 16, 0, 24]),
        ("stuff_label_ids", [6]),
        ("stuff_label_ids", [-1]),
        ("label_colors", {"label_0": [0, 0]}),
        ("label_colors", {"label_0": [0, 0, 256]}),
        ("id2label", {}),
        ("id2label", {1: "car", 2: "sky"}),
        ("num_labels", 0),
        ("backbone_config.out_indices", TimmBackboneConfig(backbone="resnet18", out_indices=[2, 3, 4])),
        ("backbone_config.out_indices", ResNetConfig()),
        ("backbone_config.num_channels", TimmBackboneConfig(backbone="resnet18", num_channels=4)),
        ("backbone_config.backbone", TimmBackboneConfig()),
        ("model_type", {"model_type": "no_such_model"}),
    ],
)
def test_impossible_values_are_refused_by_name(field: str, value: object) -> None:
    argument = "backbone_config" if field.startswith("backbone_config") or field == "model_type" else field
    with pytest.raises(ValueError, match=rf"`{field}`"):
        tiny_config(**{argument: value})


def test_all_loss_weights_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="must not all be 0"):
        tiny_config(class_weight=0, mask_weight=0, dice_weight=0)


@pytest.mark.parametrize(
    ("field", "value"), [("num_queries", 2.5), ("temperature", "cold"), ("backbone_config", "resnet34")]
)
def test_values_of_a_wrong_type_are_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(StrictDataclassFieldValidationError, match=f"'{field}'"):
        tiny_config(**{field: value})


def test_backbone_by_name_is_refused_with_the_mend() -> None:
    with pytest.raises(ValueError, match=r"backbone_config=TimmBackboneConfig\(backbone='resnet34'\)"):
        YosoConfig(backbone="resnet34")


def test_backbone_config_as_a_dict() -> None:
    config = tiny_config(backbone_config={"backbone": "resnet18", "out_indices": [1, 2, 3, 4]})
    assert isinstance(config.backbone_config, TimmBackboneConfig)
    assert config.backbone_config.out_indices == [1, 2, 3, 4]
    native = tiny_config(backbone_config={"model_type": "resnet", "out_indices": [1, 2, 3, 4]})
    assert isinstance(native.backbone_config, ResNetConfig)


@pytest.mark.parametrize(
    "backbone_config", [{"backbone": "resnet18"}, TimmBackboneConfig(backbone="resnet18", out_indices=(-1,))]
)
def test_without_out_indices_the_last_four_levels_are_taken(backbone_config: dict | TimmBackboneConfig) -> None:
    assert tiny_config(backbone_config=backbone_config).backbone_config.out_indices == [-4, -3, -2, -1]


def test_saved_config_is_read_back_equal(tmp_path: Path) -> None:
    config = tiny_config(id2label={0: "car", 1: "sky"}, stuff_label_ids=[1], temperature=0.5)
    config.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "yoso_panoptic"
    loaded = YosoConfig.from_pretrained(tmp_path)
    assert loaded.to_dict() | {"_name_or_path": ""} == config.to_dict() | {"_name_or_path": ""}
    assert loaded.backbone_config.to_dict() == config.backbone_config.to_dict()
    assert (loaded.id2label, loaded.label2id) == ({0: "car", 1: "sky"}, {"car": 0, "sky": 1})


def test_invalid_saved_config_is_refused(tmp_path: Path) -> None:
    tiny_config().save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(saved | {"num_queries": 0}))
    with pytest.raises(ValueError, match="`num_queries`"):
        YosoConfig.from_pretrained(tmp_path)


def test_labels_make_both_maps() -> None:
    config = tiny_config(id2label={0: "car", 1: "sky", 2: "tree"})
    assert (config.num_labels, config.label2id) == (3, {"car": 0, "sky": 1, "tree": 2})
    config = tiny_config(num_labels=3)
    assert config.id2label == {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}
    assert config.label2id == {"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2}


@pytest.mark.parametrize("labels", [{"num_labels": 3}, {"id2label": {0: "car", 1: "sky", 2: "tree"}}])
def test_other_labels_at_loading_replace_the_saved_ones(tmp_path: Path, labels: dict) -> None:
    tiny_config(stuff_label_ids=[1, 5]).save_pretrained(tmp_path)
    config = YosoConfig.from_pretrained(tmp_path, **labels)
    assert (config.num_labels, len(config.label2id), list(config.stuff_label_ids)) == (3, 3, [])
    assert YosoConfig.from_pretrained(tmp_path, **labels, stuff_label_ids=[2]).stuff_label_ids == [2]
    with pytest.raises(ValueError, match="`stuff_label_ids`"):
        YosoConfig.from_pretrained(tmp_path, **labels, stuff_label_ids=[3])


@pytest.mark.parametrize("num_labels", [2, 6])
def test_the_same_number_of_labels_at_loading_changes_nothing(tmp_path: Path, num_labels: int) -> None:
    config = tiny_config(num_labels=num_labels, stuff_label_ids=[1])
    config.save_pretrained(tmp_path)
    loaded, unused = YosoConfig.from_pretrained(tmp_path, num_labels=num_labels, other=1, return_unused_kwargs=True)
    assert (loaded.id2label, loaded.stuff_label_ids, unused) == (config.id2label, [1], {"other": 1})
