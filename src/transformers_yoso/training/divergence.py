"""A loss that is not finite: all processes stop together, and the state before that step is still at hand."""

import math
from collections.abc import Sequence

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.distributed.tensor import DTensor


class TrainingDiverged(RuntimeError):
    """The loss or the gradient became NaN or infinite."""


class StepStart:
    """
    What a forward pass changes besides gradients, as it was before the step: norm statistics and random generators.

    With it a step whose loss turns out not to be finite leaves no trace.
    """

    def __init__(self, model: nn.Module):
        self.statistics = list(model.buffers())
        self.kept = [buffer.clone() for buffer in self.statistics]

    @torch.no_grad()
    def keep(self) -> None:
        """Remembers the present state."""
        for kept, statistic in zip(self.kept, self.statistics, strict=True):
            kept.copy_(statistic)
        self.generator_state = torch.get_rng_state()
        self.cuda_states = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []

    @torch.no_grad()
    def restore(self) -> None:
        """Puts the remembered state back."""
        for kept, statistic in zip(self.kept, self.statistics, strict=True):
            statistic.copy_(kept)
        torch.set_rng_state(self.generator_state)
        if self.cuda_states:
            torch.cuda.set_rng_state_all(self.cuda_states)


def check_finite(
    losses: dict[str, Tensor], gradient_norm: Tensor, file_names: Sequence[str], step: int, accelerator: Accelerator
) -> None:
    """
    Compares notes with all processes before the weights move, so that none waits for another that has stopped.

    Args:
        losses: of this process's passes, summed.
        gradient_norm: of the global gradient; in float16 it may overflow, which the gradient scaler handles.
        file_names: photos of this process's part of the step.
        step: number of the step, for the message.
        accelerator: of the run.

    Raises:
        TrainingDiverged: in every process, naming the losses and the photos of the processes where they are not finite.
    """
    values = torch.stack([*(value.detach().float() for value in losses.values()), gradient_norm.float()])
    if accelerator.scaler is not None:
        values = values[:-1]
    finite = torch.isfinite(values)
    bad = accelerator.reduce((~finite.all()).float(), "sum")
    if not bad.item():
        return
    names = [name for name, is_finite in zip([*losses, "gradient"], finite.tolist(), strict=False) if not is_finite]
    reports = gather_object([(names, list(file_names))])
    culprits = list(dict.fromkeys(name for names, _ in reports for name in names))
    photos = [photo for names, photos in reports if names for photo in photos]
    shown = ", ".join(f"{name} {value.item():.4g}" for name, value in losses.items() if not math.isfinite(value))
    raise TrainingDiverged(
        f"The loss is not finite at step {step}, in {', '.join(culprits)}{f' ({shown})' if shown else ''}. "
        f"Photos of the step: {', '.join(photos)}. The weights were not moved. "
        "Try a lower learning rate or full precision, and look at these photos."
    )


def weights_are_finite(model: nn.Module, accelerator: Accelerator) -> bool:
    """Whether every parameter and every statistic is a finite number; every process must call it."""
    tensors = [tensor for tensor in model.state_dict().values() if tensor.is_floating_point()]
    local = [tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in tensors]
    bad = torch.stack([(~torch.isfinite(tensor)).any() for tensor in local]).any()
    return not accelerator.reduce(bad.float(), "sum").item()
