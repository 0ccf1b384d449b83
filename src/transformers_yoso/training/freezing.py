"""Freezes the first stages of a timm backbone, as is usual when a few hundred photos are fine-tuned on."""

from torch import nn


def freeze_first_stages(backbone: nn.Module, num_stages: int) -> None:
    """
    Takes the stem and the stages of the first `num_stages` feature levels out of training; in place.

    The first levels hold the largest maps, so this also makes a step faster: nothing is computed backwards in them.

    Args:
        backbone: Transformers' `TimmBackbone`.
        num_stages: 0 (nothing is frozen) to 4 (all that the pyramid reads).

    Raises:
        ValueError: the number is out of range, or the backbone is not a timm model with named stages.
    """
    if not 0 <= num_stages <= 4:
        raise ValueError(f"`frozen_stages` must be 0 to 4, got {num_stages}.")
    if num_stages == 0:
        return
    network = getattr(backbone, "_backbone", None)
    if network is None:
        raise ValueError(f"`frozen_stages` needs a timm backbone, not {type(backbone).__name__}.")
    stage = network.feature_info.module_name()[num_stages - 1]
    parameters = list(network.named_parameters())
    in_stage = [
        index
        for index, (name, _) in enumerate(parameters)
        if name.startswith((f"{stage}.", f"{stage.replace('.', '_')}."))
    ]
    if not in_stage:
        raise ValueError(f"The backbone has no parameters under {stage!r}, so `frozen_stages` cannot be used with it.")
    for _, parameter in parameters[: in_stage[-1] + 1]:
        parameter.requires_grad_(False)
