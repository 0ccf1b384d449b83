"""Optimiser groups of the released recipes: slower backbone, no weight decay on norm layers."""

from typing import Any

from torch import nn


def build_parameter_groups(
    model: nn.Module, learning_rate: float, backbone_multiplier: float, weight_decay: float
) -> list[dict[str, Any]]:
    """
    Sorts the trainable parameters into at most four groups.

    Parameters with a `backbone` in their path learn at `learning_rate * backbone_multiplier`. Weights and biases of
    norm layers do not decay; all other parameters do, biases of linear and convolution layers included.

    Args:
        model: holds a submodule called `backbone`.
        learning_rate: of everything but the backbone.
        backbone_multiplier: factor of the backbone.
        weight_decay: of everything but norm layers.

    Returns:
        Groups for `torch.optim.AdamW`, each with `name`, `params`, `lr` and `weight_decay`.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for module_name, module in model.named_modules():
        in_backbone = "backbone" in module_name.split(".")
        is_norm = "norm" in type(module).__name__.lower()  # also timm's own norm classes
        for parameter in module.parameters(recurse=False):
            if parameter.requires_grad:
                groups.setdefault((in_backbone, is_norm), []).append(parameter)
    return [
        {
            "name": f"{'backbone' if in_backbone else 'head'}_{'norm' if is_norm else 'weight'}",
            "params": list(dict.fromkeys(parameters)),
            "lr": learning_rate * (backbone_multiplier if in_backbone else 1.0),
            "weight_decay": 0.0 if is_norm else weight_decay,
        }
        for (in_backbone, is_norm), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]
