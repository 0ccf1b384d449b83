"""scripts/train.py with the network in float64, where the order of a sum flips no pixel of a hard mask."""

import runpy
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from transformers_yoso.training import command

build_model = command.build_model


def photos_in_float64(
    model: torch.nn.Module, positional: tuple, named: dict[str, Any]
) -> tuple[tuple, dict[str, Any]]:
    return positional, {**named, "pixel_values": named["pixel_values"].double()}


def build_model_in_float64(*arguments: Any) -> torch.nn.Module:
    model = build_model(*arguments).double()
    model.register_forward_pre_hook(photos_in_float64, with_kwargs=True)
    return model


with patch.object(command, "build_model", build_model_in_float64):
    runpy.run_path(str(Path(__file__).resolve().parents[1] / "scripts" / "train.py"), run_name="__main__")
