"""Loading a checkpoint for inference, with one line for what is wrong with it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedConfig

from ..models.configuration_yoso import YosoConfig
from ..models.image_processing_yoso import YosoImageProcessor
from ..models.modeling_yoso import YosoForUniversalSegmentation
from .errors import CheckpointError, one_line

MIN_EDGE = 32


def load_checkpoint(
    name: str,
    dtype: str | torch.dtype | None = None,
    processor_kwargs: dict[str, Any] | None = None,
    config_kwargs: dict[str, Any] | None = None,
) -> tuple[YosoForUniversalSegmentation, YosoImageProcessor]:
    """
    Model, in evaluation mode on the CPU, and image processor of a checkpoint folder or a model of the Hub; both kinds of
    `kwargs` replace saved values.

    Raises:
        CheckpointError: no checkpoint there, no weights, or another model.
    """
    dtype = as_dtype(dtype)
    check_checkpoint(name)
    try:
        model = YosoForUniversalSegmentation.from_pretrained(name, dtype=dtype, **(config_kwargs or {}))
        image_processor = YosoImageProcessor.from_pretrained(name, **(processor_kwargs or {}))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"Cannot load the checkpoint {name}: {one_line(error)}.") from error
    return model.eval(), image_processor


def size_of_edges(edges: Sequence[int]) -> dict[str, int]:
    """
    An image processor's `size` of the shortest and the longest edge in pixels.

    Raises:
        ValueError: the shortest is smaller than the backbone's stride, or larger than the longest.
    """
    shortest, longest = edges
    if not MIN_EDGE <= shortest <= longest:
        raise ValueError(f"--size needs {MIN_EDGE} <= SHORTEST <= LONGEST, but is {shortest} {longest}.")
    return {"shortest_edge": shortest, "longest_edge": longest}


def check_checkpoint(name: str) -> None:
    """
    Looks at the config only.

    Raises:
        CheckpointError: `name` is no folder with a config and no model of the Hub, or one of another type.
    """
    if Path(name).is_dir() and not (Path(name) / "config.json").is_file():
        raise CheckpointError(f"{name} is no checkpoint folder: it has no config.json.")
    try:
        model_type = PreTrainedConfig.get_config_dict(name)[0].get("model_type")
    except (OSError, ValueError) as error:
        if Path(name).is_dir():
            raise CheckpointError(f"Cannot read the config in {name}: {one_line(error)}.") from error
        raise CheckpointError(
            f"There is no folder {name}, nor a model of that name on the Hub within reach."
        ) from error
    if model_type != YosoConfig.model_type:
        raise CheckpointError(f"{name} holds a model of type {model_type!r}, but {YosoConfig.model_type!r} is needed.")


def as_device(device: str | torch.device | None) -> torch.device:
    """A device that is there; for None the GPU if CUDA has one, else the CPU."""
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:  # AssertionError where torch was built without CUDA
        raise ValueError(f"torch has no device {str(device)!r} here ({one_line(error)}).") from error
    return found


def as_dtype(dtype: str | torch.dtype | None) -> torch.dtype:
    """A floating dtype by itself or by its name; float32 for None."""
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype or torch.float32
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ValueError(f"`dtype` must be a floating dtype such as 'bfloat16', but is {dtype!r}.")
    return found
