"""Pretrained timm weights from a safetensors file into the backbone of a YOSO model."""

import re
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn


def load_backbone_weights(backbone: nn.Module, file: str | Path) -> list[str]:
    """
    Loads timm weights by timm's own names into a `features_only` timm model (wrapped or not).

    timm flattens containers in some `features_only` models (`stages.0.x` becomes `stages_0.x`); names are mapped for
    that. Every weight of the backbone must be in the file with its shape; batch counters may be missing. Weights are
    cast to the backbone's precision.

    Args:
        backbone: for example Transformers' `TimmBackbone`.
        file: a `.safetensors` file.

    Returns:
        Names in the file that the backbone has no use for: the classifier and layers behind the last feature level.

    Raises:
        FileNotFoundError, ValueError: the file is missing, unreadable, or lacks or mis-shapes a weight (named).
    """
    file = Path(file)
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such backbone weights file.")
    try:
        stored = load_file(file)
    except SafetensorError as error:
        raise ValueError(f"{file}: not a safetensors file ({error}).") from error
    network = getattr(backbone, "_backbone", backbone)
    targets = network.state_dict()
    loaded = {name: _find(name, stored) for name in targets}
    missing = [name for name, source in loaded.items() if source is None and not name.endswith("num_batches_tracked")]
    if missing:
        raise ValueError(f"{file}: {len(missing)} of {len(targets)} backbone weights are missing: {missing[:5]}.")
    found = {name: source for name, source in loaded.items() if source is not None}
    for name, source in found.items():
        if stored[source].shape != targets[name].shape:
            raise ValueError(
                f"{file}: {source} is {tuple(stored[source].shape)}, the backbone needs {tuple(targets[name].shape)}."
            )
    with torch.no_grad():
        for name, source in found.items():
            targets[name].copy_(stored[source])
    return sorted(set(stored) - set(found.values()))


def _find(name: str, stored: dict[str, Tensor]) -> str | None:
    unflattened = re.sub(r"^(\w+?)_(\d+)\.", r"\1.\2.", name)
    return next((candidate for candidate in (name, unflattened) if candidate in stored), None)
