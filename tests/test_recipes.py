"""Recipes and the command line of training."""

import pytest

from transformers_yoso.conversion.dataset_specs import DATASET_SPECS
from transformers_yoso.training import (
    DataArguments,
    OptimizationArguments,
    OutputArguments,
    load_recipe,
    parse_arguments,
    recipe_names,
)
from transformers_yoso.training.data_loading import build_augmentation

PATHS = ["--dataset_dir", "data", "--output_dir", "out"]


@pytest.mark.parametrize("name", sorted(DATASET_SPECS))
def test_recipe_is_that_of_the_released_checkpoint(name):
    run, spec = parse_arguments(["--recipe", name, *PATHS]).resolved(1000, num_processes=8), DATASET_SPECS[name]
    model = run.model
    assert (model.num_queries, model.num_class_layers, model.num_mask_layers) == (
        *(spec.num_queries, spec.num_class_layers, spec.num_mask_layers),
    )
    assert (model.temperature, model.object_threshold, model.overlap_threshold) == (
        *(spec.temperature, spec.object_threshold, spec.overlap_threshold),
    )
    assert model.train_backbone_batch_norm != spec.freeze_batch_norm_2d
    assert run.data.validation_size == [spec.shortest_edge, spec.longest_edge]
    options = run.optimization
    assert (options.learning_rate, options.weight_decay, options.max_grad_norm) == (1e-4, 0.05, 0.01)
    assert options.per_device_train_batch_size == 2 and options.total_train_batch_size == 16


def test_schedules_and_augmentation_of_the_released_recipes():
    runs = {name: parse_arguments(["--recipe", name, *PATHS]) for name in DATASET_SPECS}
    steps = {name: run.optimization.max_train_steps for name, run in runs.items()}
    assert steps == {"coco": 368_750, "cityscapes": 180_000, "ade20k": 160_000, "mapillary": 300_000}
    coco = runs.pop("coco")
    assert coco.optimization.lr_milestones == [327_778, 355_092] and coco.optimization.lr_scheduler_type == "step"
    assert coco.data.scale_range == [0.1, 2.0] and coco.data.image_size == [1024, 1024]
    assert {run.optimization.lr_scheduler_type for run in runs.values()} == {"poly"}
    assert {name: run.data.image_size for name, run in runs.items()} == {
        **{"cityscapes": [512, 1024], "ade20k": [640, 640], "mapillary": [1024, 1024]},
    }
    edges = {name: (run.data.shortest_edges[0], run.data.shortest_edges[-1]) for name, run in runs.items()}
    assert edges == {"cityscapes": (512, 2048), "ade20k": (320, 1280), "mapillary": (1024, 4096)}
    assert all(run.data.color_distortion and len(run.data.shortest_edges) == 16 for run in runs.values())


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_can_be_built(name):
    run = parse_arguments(["--recipe", name, *PATHS]).resolved(400, num_processes=1)
    assert run.as_dict().items() >= load_recipe(name).items() and run.as_dict()["recipe"] == name
    build_augmentation(run.data)


def test_given_arguments_override_the_recipe():
    changes = ["--learning_rate", "3e-4", "--num_train_epochs", "2", "--scale_range", "1", "1", "--no_horizontal_flip"]
    batch = ["--per_device_train_batch_size", "4", "--gradient_accumulation_steps", "2"]
    run = parse_arguments(["--recipe", "cityscapes", *PATHS, *changes, *batch])
    assert run.optimization.learning_rate == 3e-4 and not run.data.horizontal_flip
    assert run.data.scale_range == [1, 1] and run.data.shortest_edges is None
    resolved = run.resolved(num_train_samples=100, num_processes=3).optimization
    assert (resolved.total_train_batch_size, resolved.max_train_steps) == (24, 9)  # 200 photos in steps of 24
    assert run.model.num_class_layers == 3  # the recipe's


def test_own_recipe_file(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("max_train_steps: 7\nimage_size: [64]\n")
    run = parse_arguments(["--recipe", str(file), *PATHS])
    assert run.optimization.max_train_steps == 7 and run.data.image_size == [64]
    file.write_text("max_train_step: 7\n")
    with pytest.raises(ValueError, match=r"unknown arguments \['max_train_step'\]"):
        parse_arguments(["--recipe", str(file), *PATHS])
    file.write_text("- 7\n")
    with pytest.raises(ValueError, match="mapping"):
        parse_arguments(["--recipe", str(file), *PATHS])
    with pytest.raises(ValueError, match=r"'cocoa'.*coco"):
        parse_arguments(["--recipe", "cocoa", *PATHS])


def test_senseless_arguments_are_refused():
    with pytest.raises(ValueError, match="max_train_steps"):
        OptimizationArguments(max_train_steps=0)
    with pytest.raises(ValueError, match="scale_range"):
        DataArguments(scale_range=[0.5, 2.0], shortest_edges=[512])
    with pytest.raises(ValueError, match="validation_size"):
        DataArguments(validation_size=[512])
    with pytest.raises(ValueError, match="hub_model_id"):
        OutputArguments(output_dir="out", push_to_hub=True)
    run = parse_arguments([*PATHS, "--total_train_batch_size", "16"])
    with pytest.raises(ValueError, match="How long"):
        run.resolved(100, num_processes=1)
    run = parse_arguments([*PATHS, "--total_train_batch_size", "16", "--num_train_epochs", "1"])
    with pytest.raises(ValueError, match="3 processes"):
        run.resolved(100, num_processes=3)
    with pytest.raises(ValueError, match="streamed"):
        run.resolved(None, num_processes=1)


def test_the_token_is_never_written():
    run = parse_arguments([*PATHS, "--push_to_hub", "--hub_model_id", "someone/yoso", "--hub_token", "secret"])
    assert run.output.hub_token == "secret" and "secret" not in str(run.as_dict())
