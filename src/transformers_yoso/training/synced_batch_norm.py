"""
Batch norm whose statistics are those of the global batch, on any backend.

torch's `SyncBatchNorm` runs on accelerators only. Here the same is done with differentiable all-reduces, so that a run
of several CPU processes (gloo) equals that of one process with the same global batch.
"""

import torch
import torch.distributed as dist
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """
    `nn.BatchNorm2d` that takes mean and variance over all processes while training.

    Args:
        source: the norm whose parameters and statistics are taken over; timm's with dropout and activation inside too.
    """

    def __init__(self, source: nn.BatchNorm2d):
        super().__init__(source.num_features, source.eps, source.momentum, source.affine, source.track_running_stats)
        self.weight, self.bias = source.weight, source.bias
        self.running_mean, self.running_var = source.running_mean, source.running_var
        self.num_batches_tracked = source.num_batches_tracked
        self.drop = getattr(source, "drop", nn.Identity())
        self.act = getattr(source, "act", nn.Identity())
        self.training = source.training

    def forward(self, features: Tensor) -> Tensor:
        """`(B, C, H, W)` -> the same shape; every process must take part."""
        normalised = self._normalise_global(features) if self.training else super().forward(features)
        return self.act(self.drop(normalised))

    def _normalise_global(self, features: Tensor) -> Tensor:
        values = features.float()
        count = values.new_tensor(float(values.numel() // values.shape[1]))
        sums = all_reduce(torch.cat([values.sum((0, 2, 3)), count[None]]))
        mean, count = sums[:-1] / sums[-1], sums[-1].detach()
        centred = values - mean[:, None, None]
        variance = all_reduce(centred.square().sum((0, 2, 3))) / count
        self._track(mean.detach(), variance.detach() * count / (count - 1))
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(features.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, unbiased_variance: Tensor) -> None:
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(unbiased_variance, self.momentum)


def synchronise_batch_norm(model: nn.Module, device: torch.device) -> nn.Module:
    """
    Makes the trained batch norms of `model` synchronised ones if several processes train; frozen ones stay.

    Names and values of the weights stay. On CUDA torch's own `SyncBatchNorm` is taken, elsewhere [`SyncedBatchNorm2d`].
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return model
    if device.type == "cuda":
        return convert_sync_batchnorm(model)
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d) and not isinstance(child, SyncedBatchNorm2d):
                setattr(parent, name, SyncedBatchNorm2d(child))
    return model
