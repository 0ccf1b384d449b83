"""The paper's variants by config: aggregation, attentions, blocks, taps, stages, proposals; all train, save and fuse."""

import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from test_fusing import assert_equal_outputs, lively_model, max_relative_error
from tiny_yoso import random_labels, tiny_config, tiny_model
from transformers_yoso import YosoForUniversalSegmentation
from transformers_yoso.models.attention_block import build_attention
from transformers_yoso.models.configuration_yoso import ATTENTION_TYPES

COMBINED = {
    "aggregator_type": "ifa",
    "attention_type": "dca",
    "num_attention_blocks": 3,
    "dynamic_kernel_size": 5,
    "num_stages": 3,
    "num_queries": 15,
}
VARIANTS = [
    {"aggregator_type": "ifa"},
    {"aggregator_type": "ifa", "fusion_kernel_size": 3},
    *({"attention_type": name} for name in ATTENTION_TYPES),
    {"num_attention_blocks": 1},
    {"num_attention_blocks": 3},
    {"dynamic_kernel_size": 1},
    {"dynamic_kernel_size": 5},
    {"num_stages": 1},
    {"num_stages": 3},
    {"num_queries": 15},
    COMBINED,
]
each_variant = pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: "-".join(map(str, variant.values())))


@each_variant
def test_backward_reaches_every_weight(variant: dict) -> None:
    model = tiny_model(**variant).train()
    torch.manual_seed(0)
    outputs = model(pixel_values=torch.randn(2, 3, 64, 96), **random_labels([3, 2], (64, 96)))
    assert outputs.loss.isfinite()
    assert outputs.masks_queries_logits.shape == (2, model.config.num_queries, 16, 24)
    assert len(outputs.auxiliary_logits) == model.config.num_stages
    outputs.loss.backward()
    without = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert not without


@each_variant
@torch.no_grad()
def test_saved_model_is_the_same(variant: dict, tmp_path: Path) -> None:
    model, pixel_values = tiny_model(**variant), torch.randn(1, 3, 64, 64)
    model.save_pretrained(tmp_path)
    opened = YosoForUniversalSegmentation.from_pretrained(tmp_path).eval()
    for name, value in variant.items():
        assert getattr(opened.config, name) == value
    expected, found = model(pixel_values), opened(pixel_values)
    assert torch.equal(found.class_queries_logits, expected.class_queries_logits)
    assert torch.equal(found.masks_queries_logits, expected.masks_queries_logits)


@each_variant
def test_inference_form_is_equal(variant: dict) -> None:
    torch.manual_seed(0)
    model = lively_model(**variant).double()
    fused = copy.deepcopy(model).fuse()
    assert_equal_outputs(model, fused, pixel_values=torch.randn(2, 3, 64, 96, dtype=torch.float64))


@pytest.mark.parametrize("name", ATTENTION_TYPES)
@torch.no_grad()
def test_half_precision_stands_large_sums(name: str) -> None:
    """Values pooled over a large mask leave float16's range."""
    torch.manual_seed(0)
    attention = build_attention(tiny_config(attention_type=name))
    queries, values = torch.randn(1, 10, 32).half(), 1e6 * torch.randn(1, 10, 32)
    expected = attention(queries.float(), values)
    found = attention.half()(queries, values)
    assert found.dtype == torch.float32
    assert max_relative_error(found, expected) < 0.05


# The definitions of Table 6


@torch.no_grad()
def attention_and_inputs(name: str, kernel_size: int = 3) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    config = tiny_config(attention_type=name, dynamic_kernel_size=kernel_size)
    attention = build_attention(config).double()
    return attention, *torch.randn(2, 3, 10, 32, dtype=torch.float64).unbind()


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
def test_dca_is_a_full_convolution(kernel_size: int) -> None:
    dca, queries, values = attention_and_inputs("dca", kernel_size)
    weights = dca.dynamic_kernels(queries).view(3, 10, 10, kernel_size)
    convolved = [F.conv1d(value[None], weight, padding="same") for value, weight in zip(values, weights, strict=True)]
    torch.testing.assert_close(dca(queries, values), dca.norm(torch.cat(convolved)))


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
def test_ddca_is_a_depthwise_convolution(kernel_size: int) -> None:
    ddca, queries, values = attention_and_inputs("ddca", kernel_size)
    weights = ddca.dynamic_kernels(queries)[:, :, None]
    convolved = [
        F.conv1d(value[None], weight, padding="same", groups=10) for value, weight in zip(values, weights, strict=True)
    ]
    torch.testing.assert_close(ddca(queries, values), ddca.norm(torch.cat(convolved)))


def test_pdca_mixes_values() -> None:
    pdca, queries, values = attention_and_inputs("pdca")
    expected = torch.einsum("bnm,bmd->bnd", pdca.dynamic_kernels(queries), values)
    torch.testing.assert_close(pdca(queries, values), pdca.norm(expected))


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_mhca_is_torchs_attention_of_queries_over_values(implementation: str) -> None:
    mhca, queries, values = attention_and_inputs("mhca")
    mhca.config._attn_implementation = implementation
    reference = nn.MultiheadAttention(32, 4, batch_first=True).double()
    projections = (mhca.q_proj, mhca.k_proj, mhca.v_proj)
    with torch.no_grad():
        reference.in_proj_weight.copy_(torch.cat([proj.weight for proj in projections]))
        reference.in_proj_bias.copy_(torch.cat([proj.bias for proj in projections]))
    reference.out_proj.load_state_dict(mhca.o_proj.state_dict())
    torch.testing.assert_close(mhca(queries, values), mhca.norm(reference(queries, values, values)[0]))


# Early exit


@pytest.mark.parametrize("fused", [False, True])
@torch.no_grad()
def test_early_exit_gives_that_stages_outputs(fused: bool, tmp_path: Path) -> None:
    model, pixel_values = lively_model(num_stages=3).double(), torch.randn(1, 3, 64, 64, dtype=torch.float64)
    whole = model(pixel_values, output_auxiliary_logits=True)
    model.config.num_inference_stages = 2
    model.save_pretrained(tmp_path)
    opened = YosoForUniversalSegmentation.from_pretrained(tmp_path, dtype=torch.float64).eval()
    outputs = (opened.fuse() if fused else opened)(pixel_values, output_auxiliary_logits=True)
    assert len(outputs.auxiliary_logits) == 2
    for name in ("class_queries_logits", "masks_queries_logits"):
        torch.testing.assert_close(outputs[name], whole.auxiliary_logits[2][name])
    opened.config.num_inference_stages = None
    torch.testing.assert_close(opened(pixel_values).class_queries_logits, whole.class_queries_logits)


def test_early_exit_by_name_and_not_in_training(tmp_path: Path) -> None:
    tiny_model().save_pretrained(tmp_path)
    model = YosoForUniversalSegmentation.from_pretrained(tmp_path, num_inference_stages=1)
    pixel_values = torch.randn(2, 3, 64, 64)
    assert len(model.eval()(pixel_values, output_auxiliary_logits=True).auxiliary_logits) == 1
    outputs = model.train()(pixel_values, **random_labels([2, 2], (64, 64)))
    assert len(outputs.auxiliary_logits) == 2


def test_no_exit_before_the_first_or_after_the_last_stage() -> None:
    with pytest.raises(ValueError, match=r"`num_inference_stages` must be 1 to `num_stages` \(2\), got 3"):
        tiny_config(num_inference_stages=3)
    model = tiny_model()
    model.config.num_inference_stages = 0
    with pytest.raises(ValueError, match="`num_inference_stages` must be 1 to"):
        model(torch.randn(1, 3, 64, 64))


# Wrong input


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attention_type": "sdpa"}, "`attention_type` must be one of sdca, mhca, dca, pdca, ddca, got 'sdpa'"),
        ({"aggregator_type": "fpn"}, "`aggregator_type` must be one of cfa, ifa, got 'fpn'"),
        ({"aggregator_type": "cfa", "fusion_kernel_size": 3}, "`fusion_kernel_size` 3 is for"),
        ({"aggregator_type": "ifa", "fusion_kernel_size": 2}, "`fusion_kernel_size` must be odd"),
    ],
)
def test_unknown_variants_are_refused_with_the_known_ones(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_config(**changes)


@pytest.mark.parametrize("name", ["attention_type", "aggregator_type"])
def test_unknown_variants_are_refused_when_a_checkpoint_is_opened(name: str, tmp_path: Path) -> None:
    tiny_model().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=f"`{name}` must be one of"):
        YosoForUniversalSegmentation.from_pretrained(tmp_path, **{name: "other"})
