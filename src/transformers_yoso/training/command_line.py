"""The command line of training: a recipe's values under the arguments that are given."""

from argparse import SUPPRESS, Namespace
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from transformers import HfArgumentParser

from .arguments import DataArguments, ModelArguments, OptimizationArguments, OutputArguments, TrainingRun

GROUPS = (ModelArguments, DataArguments, OptimizationArguments, OutputArguments)

# A recipe's value gives way when the command line sets the same thing another way.
_RIVALS = {
    "max_train_steps": ("num_train_epochs",),
    "num_train_epochs": ("max_train_steps",),
    "total_train_batch_size": ("per_device_train_batch_size",),
    "scale_range": ("shortest_edges",),
    "shortest_edges": ("scale_range",),
    "longest_edge": ("scale_range",),
}


def recipe_names() -> list[str]:
    """The recipes that ship with the package."""
    files = (resources.files(__package__) / "recipes").iterdir()
    return sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml"))


def load_recipe(name: str) -> dict[str, Any]:
    """
    Reads a recipe: argument names with their values.

    Args:
        name: of a recipe that ships with the package, or a YAML file.

    Raises:
        ValueError: no such recipe, or it is no YAML mapping.
    """
    if name in recipe_names():
        text = (resources.files(__package__) / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")
    elif Path(name).is_file():
        text = Path(name).read_text(encoding="utf-8")
    else:
        raise ValueError(f"No recipe {name!r}; choose one of {', '.join(recipe_names())}, or give a YAML file.")
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"Recipe {name}: not valid YAML ({error}).") from error
    if not isinstance(values, dict):
        raise ValueError(f"Recipe {name}: must be a mapping from argument names to values.")
    return values


def parse_arguments(
    arguments: Sequence[str] | None = None, description: str | None = None, prog: str | None = None
) -> TrainingRun:
    """
    Reads the command line (or `arguments`); `--recipe NAME` gives defaults, which given arguments override.

    Raises:
        ValueError: unknown recipe, or a recipe with an unknown argument.
    """
    parser = HfArgumentParser(GROUPS, prog=prog, description=description)
    parser.add_argument("--recipe", help=f"{', '.join(recipe_names())}, or a YAML file with values for arguments.")
    given = _given_arguments(arguments)
    if given.get("recipe") is not None:
        parser.set_defaults(**_recipe_defaults(parser, given))
    *groups, rest = parser.parse_args_into_dataclasses(arguments, look_for_args_file=False)
    return TrainingRun(*groups, recipe=rest.recipe)


def _given_arguments(arguments: Sequence[str] | None) -> dict[str, Any]:
    parser = HfArgumentParser(GROUPS, argument_default=SUPPRESS, add_help=False)
    parser.add_argument("--recipe")
    for action in parser._actions:
        action.required, action.default = False, SUPPRESS
    namespace, _ = parser.parse_known_args(arguments, Namespace())
    return vars(namespace)


def _recipe_defaults(parser: HfArgumentParser, given: dict[str, Any]) -> dict[str, Any]:
    values = load_recipe(given["recipe"])
    unknown = sorted(set(values) - {action.dest for action in parser._actions})
    if unknown:
        raise ValueError(f"Recipe {given['recipe']}: unknown arguments {unknown}.")
    return {name: value for name, value in values.items() if not given.keys() & set(_RIVALS.get(name, ()))}
