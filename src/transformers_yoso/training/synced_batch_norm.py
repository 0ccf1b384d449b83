"""
Batch norm whose statistics are those of the global batch, on any backend.

torch's `SyncBatchNorm` runs on accelerators only. This one is for CPU processes (gloo). Its sums are taken in float64, so
that they round to the same float32 however the batch is spread: the hard masks of the decoder are discontinuous, and a
last bit that differs there was seen to move losses by a thousandth some steps later.
"""

from typing import Any

import torch
import torch.distributed as dist
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn


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
        if not self.training:
            return self.act(self.drop(super().forward(features)))
        precise = features.to(torch.promote_types(features.dtype, torch.float32))
        normalised, mean, variance, count = _GlobalBatchNorm.apply(precise, self.weight, self.bias, self.eps)
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        return self.act(self.drop(normalised.to(features.dtype)))


class _GlobalBatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        count = features.new_tensor([features.numel() // features.shape[1]], dtype=torch.float64)
        sums = _sum_over_processes(torch.cat([_channel_sums(features), count]))
        mean, count = sums[:-1] / sums[-1], sums[-1]
        centred = features - _per_channel(mean, features)
        rounding = mean - mean.to(features.dtype)  # of the mean that was subtracted
        variance = _sum_over_processes(_channel_sums(centred.square())) / count - rounding.square()
        inverse_std = torch.rsqrt(variance + eps)
        standardised = centred * _per_channel(inverse_std, features)
        ctx.save_for_backward(standardised, weight, inverse_std, count)
        statistics = (mean.to(features.dtype), variance.to(features.dtype), count)
        ctx.mark_non_differentiable(*statistics)
        bias, weight = _per_channel(bias, features), _per_channel(weight, features)
        return torch.addcmul(bias, standardised, weight), *statistics

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        standardised, weight, inverse_std, count = ctx.saved_tensors
        own_sums = torch.cat([_channel_sums(gradient), _channel_sums(gradient * standardised)])
        bias_gradient, weight_gradient = own_sums.to(weight.dtype).chunk(2)
        mean_gradient, mean_product = (_sum_over_processes(own_sums.clone()) / count).chunk(2)
        mean_gradient, mean_product, scale = (
            _per_channel(values, gradient) for values in (mean_gradient, mean_product, weight * inverse_std)
        )
        return (gradient - mean_gradient - standardised * mean_product) * scale, weight_gradient, bias_gradient, None


def synchronise_batch_norm(model: nn.Module, device: torch.device) -> nn.Module:
    """
    Makes the trained batch norms of `model` those of the global batch; frozen ones stay, as do names and values.

    On CUDA torch's own `SyncBatchNorm` is taken if several processes train. On the CPU it is [`SyncedBatchNorm2d`] for
    any number of processes, so that all of them round alike (and torch's own is slower there on channels-last maps).
    """
    if device.type == "cuda":
        return convert_sync_batchnorm(model) if dist.is_initialized() and dist.get_world_size() > 1 else model
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d) and not isinstance(child, SyncedBatchNorm2d):
                setattr(parent, name, SyncedBatchNorm2d(child))
    return model


def _channel_sums(features: Tensor) -> Tensor:
    return features.sum((0, 2, 3), dtype=torch.float64)


def _per_channel(values: Tensor, features: Tensor) -> Tensor:
    return values.to(features.dtype)[:, None, None]


def _sum_over_processes(sums: Tensor) -> Tensor:
    if dist.is_initialized():
        dist.all_reduce(sums)
    return sums
