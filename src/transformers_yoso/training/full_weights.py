"""Tensors of a model as whole ones, also where FSDP has spread them over the processes."""

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor


def full_tensor(tensor: Tensor) -> Tensor:
    """The tensor itself, gathered if it is sharded; every process must call it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def full_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """`model.state_dict()` with sharded tensors gathered; every process must call it."""
    return {name: full_tensor(tensor) for name, tensor in model.state_dict().items()}
