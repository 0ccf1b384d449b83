"""Modulated deformable convolution, project then sample, against torchvision's im2col operator."""

import pytest
import torch
from torch import Tensor
from torchvision.ops import deform_conv2d

from transformers_yoso.models.modulated_deformable_conv import ModulatedDeformableConv2d, modulated_deform_conv2d


def random_inputs(
    size: tuple[int, int], kernel_size: int = 3, dtype: torch.dtype = torch.float64, spread: float = 2.0
) -> list[Tensor]:
    """Features, offsets of some pixels, modulation and weight, with gradients."""
    torch.manual_seed(0)
    taps = kernel_size**2
    inputs = [
        torch.randn(2, 5, *size),
        spread * torch.randn(2, 2 * taps, *size),
        torch.rand(2, taps, *size),
        torch.randn(4, 5, kernel_size, kernel_size),
    ]
    return [tensor.to(dtype).requires_grad_() for tensor in inputs]


def torchvision_result(features: Tensor, offsets: Tensor, modulation: Tensor, weight: Tensor) -> Tensor:
    return deform_conv2d(features, offsets, weight, padding=weight.shape[-1] // 2, mask=modulation)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 3), (8, 13)])
@pytest.mark.parametrize("kernel_size", [1, 3, 5])
def test_values_and_gradients_equal_torchvisions(size: tuple[int, int], kernel_size: int) -> None:
    inputs = random_inputs(size, kernel_size)
    actual, expected = modulated_deform_conv2d(*inputs), torchvision_result(*inputs)
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)
    cotangent = torch.randn_like(expected)
    gradients = torch.autograd.grad(actual, inputs, cotangent)
    for gradient, reference in zip(gradients, torch.autograd.grad(expected, inputs, cotangent), strict=True):
        torch.testing.assert_close(gradient, reference, rtol=1e-9, atol=1e-9)


def test_float32_equals_torchvisions() -> None:
    inputs = random_inputs((16, 25), dtype=torch.float32)
    torch.testing.assert_close(modulated_deform_conv2d(*inputs), torchvision_result(*inputs), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("offset", [0.0, 0.5, -1.0, 5.999, 6.0, -6.5, 1e4, -1e9, 1e30, float("inf"), -float("inf")])
def test_offsets_at_and_far_outside_of_the_border(offset: float) -> None:
    features, offsets, modulation, weight = (tensor.detach() for tensor in random_inputs((6, 7)))
    offsets[:, ::3] = offset
    actual = modulated_deform_conv2d(features, offsets, modulation, weight)
    torch.testing.assert_close(actual, torchvision_result(features, offsets, modulation, weight))


def test_nan_offsets_read_nothing_outside_of_the_map() -> None:
    features, offsets, modulation, weight = (tensor.detach() for tensor in random_inputs((6, 7)))
    offsets[0, :, 3, 3] = float("nan")
    result = modulated_deform_conv2d(features, offsets, modulation, weight)
    assert torch.equal(result[0, :, 3, 3], torch.zeros(4, dtype=torch.float64))
    assert result.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_with_gradients_is_near_double(dtype: torch.dtype) -> None:
    exact = random_inputs((9, 14))
    rounded = [tensor.detach().to(dtype).requires_grad_() for tensor in exact]
    result = modulated_deform_conv2d(*rounded)
    expected = modulated_deform_conv2d(*(tensor.double() for tensor in rounded))
    assert result.dtype == dtype
    tolerance = 4 * torch.finfo(dtype).eps * expected.abs().max().item()
    torch.testing.assert_close(result.double(), expected, rtol=0, atol=tolerance)
    gradients = torch.autograd.grad(result.sum(), rounded)
    assert all(gradient.dtype == dtype and gradient.isfinite().all() for gradient in gradients)


def test_without_offsets_it_is_a_plain_convolution() -> None:
    features, offsets, modulation, weight = (tensor.detach() for tensor in random_inputs((7, 9)))
    result = modulated_deform_conv2d(features, torch.zeros_like(offsets), torch.ones_like(modulation), weight)
    torch.testing.assert_close(result, torch.conv2d(features, weight, padding=1))


def test_module_takes_offsets_and_modulation_from_its_offset_conv() -> None:
    torch.manual_seed(0)
    module = ModulatedDeformableConv2d(5, 4).double()
    features = torch.randn(2, 5, 6, 8, dtype=torch.float64)
    located = module.offset_conv(features)
    expected = torchvision_result(features, located[:, :18], located[:, 18:].sigmoid(), module.weight)
    torch.testing.assert_close(module(features), expected)
