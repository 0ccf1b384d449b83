"""The inference form's deformable convolution against the plain one, and its Triton kernel against torch's operators."""

import pytest
import torch
from torch import Tensor

from transformers_yoso.models.deformable_sampling import InferenceDeformableConv2d, sampling_table
from transformers_yoso.models.modulated_deformable_conv import ModulatedDeformableConv2d
from triton_interpreter import run_in_interpreter

KERNEL_CHECK = """
import torch
from test_deformable_sampling import sampling_inputs, sample_by_table
from transformers_yoso.models.deformable_sampling_triton import sample_deformably

for shape in ((2, 5, 7, 12), (1, 3, 4, 130)):
    projected, offsets = sampling_inputs(*shape)
    torch.testing.assert_close(sample_deformably(projected, offsets, 3), sample_by_table(projected, offsets))
"""


def sampling_inputs(batch_size: int, height: int, width: int, channels: int) -> tuple[Tensor, Tensor]:
    """Projected maps, and offsets that also lead far out of the map."""
    torch.manual_seed(0)
    projected = torch.randn(batch_size, height, width, 9 * channels)
    offsets = 3 * torch.randn(batch_size, height, width, 27)
    offsets[0, 0, 0, 0], offsets[-1, 2, 3, 1] = 1e9, -1e12
    return projected, offsets


def sample_by_table(projected: Tensor, offsets: Tensor) -> Tensor:
    indices, weights = sampling_table(offsets[..., :18].unflatten(-1, (9, 2)), offsets[..., 18:].sigmoid())
    table = projected.reshape(-1, projected.shape[-1] // 9)
    return (weights.unsqueeze(-1) * table[indices.long()]).sum(1).view(*projected.shape[:3], -1)


@pytest.mark.parametrize("spread", [0.0, 1.0, 100.0])
@torch.no_grad()
def test_equals_the_plain_convolution(spread: float) -> None:
    torch.manual_seed(0)
    plain = ModulatedDeformableConv2d(6, 5).double()
    plain.offset_conv.bias.normal_(std=spread)
    features = torch.randn(2, 6, 7, 9, dtype=torch.float64)
    found = InferenceDeformableConv2d(plain)(features)
    torch.testing.assert_close(found, plain(features), rtol=1e-12, atol=1e-12)


def test_undefined_positions_read_nothing() -> None:
    offsets = torch.zeros(1, 4, 4, 9, 2)
    offsets[0, 1, 1] = float("nan")
    offsets[0, 2, 2, :, 0] = float("inf")
    indices, weights = sampling_table(offsets, torch.ones(1, 4, 4, 9))
    assert indices.min() >= 0 and indices.max() < 4 * 4 * 9
    weights = weights.view(4, 4, 36)
    assert not weights[1, 1].any() and not weights[2, 2].any()
    assert weights[1, 2].sum() == 9


def test_triton_kernel_equals_torch_in_the_interpreter() -> None:
    run_in_interpreter(KERNEL_CHECK)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_triton_kernel_equals_torch_on_a_gpu(dtype: torch.dtype) -> None:
    from transformers_yoso.models.deformable_sampling_triton import sample_deformably

    projected, offsets = (tensor.cuda().to(dtype) for tensor in sampling_inputs(2, 33, 47, 256))
    expected = sample_by_table(projected.float(), offsets.float())
    tolerance = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 1e-1}[dtype]
    found = sample_deformably(projected, offsets, 3)
    torch.testing.assert_close(found.float(), expected, rtol=tolerance, atol=tolerance)
