"""Strict renaming of the official (detectron2) parameters: every key is mapped, or listed here as dropped."""

import re
from collections.abc import Callable

import torch
from torch import Tensor, nn

BACKBONE = "model.backbone._backbone"
NECK = "model.feature_pyramid_aggregator"
DECODER = "model.decoder"

IMAGE_MEAN_AND_STD = {
    "pixel_mean": (123.675, 116.28, 103.53),
    "pixel_std": (58.395, 57.12, 57.375),
}
"""Buffers some detectron2 versions save. The image processor holds these values; others are refused."""

CLASS_WEIGHTS = "yoso_head.criterion.empty_weight"
"""Weights of the cross entropy, dropped: the config holds `no_object_weight`."""

BATCH_COUNTER = "num_batches_tracked"
"""Batch norm's counter of training batches. Frozen batch norm has none, and older files lack it: taken as 0."""

_STAGE_PARTS = {
    "f_atten.weight_linear": "attention_blocks.0.attention.dynamic_kernels",
    "f_atten.norm": "attention_blocks.0.attention.norm",
    "f_atten_norm": "attention_blocks.0.norm",
    "k_atten.weight_linear": "attention_blocks.1.attention.dynamic_kernels",
    "k_atten.norm": "attention_blocks.1.attention.norm",
    "k_atten_norm": "attention_blocks.1.norm",
    "s_atten.out_proj": "post_attention.self_attention.o_proj",
    "s_atten_norm": "post_attention.attention_norm",
    "ffn.layers.0.0": "post_attention.feedforward.0",
    "ffn.layers.1": "post_attention.feedforward.2",
    "ffn_norm": "post_attention.feedforward_norm",
    "fc_mask": "mask_branch.mask_kernels",
}
_UPSAMPLING_PARTS = {
    "dcn_offset": "deformable_conv.offset_conv",
    "dcn": "deformable_conv",
    "dcn_bn": "deformable_norm",
    "up_sample": "upsampling_conv",
    "up_bn": "upsampling_norm",
}


def _block(match: re.Match) -> str:
    return f"{BACKBONE}.layer{int(match['stage']) - 1}.{match['block']}"


def _hidden_layer(match: re.Match) -> str:
    """Official branches are flat (Linear, LayerNorm, ReLU, Linear, ...); ours nest the three of a layer."""
    layer, part = divmod(int(match["index"]), 3)
    branch = f"{DECODER}.stages.{match['stage']}.mask_branch"
    if match["branch"] == "cls":
        branch = f"class_branches.{match['stage']}"
    return f"{branch}.layers.{layer}.{part}.{match['leaf']}"


_ANY_OF = "|".join
_STAGE = r"yoso_head\.mask_heads\.(?P<stage>\d+)"
_BLOCK = r"backbone\.res(?P<stage>[2-5])\.(?P<block>\d+)"

RENAMINGS: tuple[tuple[str, Callable[[re.Match], str]], ...] = (
    (r"backbone\.stem\.conv1\.weight", lambda m: f"{BACKBONE}.conv1.weight"),
    (r"backbone\.stem\.conv1\.norm\.(\w+)", lambda m: f"{BACKBONE}.bn1.{m[1]}"),
    (_BLOCK + r"\.shortcut\.weight", lambda m: f"{_block(m)}.downsample.0.weight"),
    (_BLOCK + r"\.shortcut\.norm\.(?P<leaf>\w+)", lambda m: f"{_block(m)}.downsample.1.{m['leaf']}"),
    (_BLOCK + r"\.conv(?P<conv>[123])\.weight", lambda m: f"{_block(m)}.conv{m['conv']}.weight"),
    (_BLOCK + r"\.conv(?P<conv>[123])\.norm\.(?P<leaf>\w+)", lambda m: f"{_block(m)}.bn{m['conv']}.{m['leaf']}"),
    # Lateral convolutions count from C5 down, upsamplings from C5 -> C4; ours count from C2 up.
    (
        r"yoso_neck\.deconv\.lateral_conv([0-3])\.(\w+)",
        lambda m: f"{NECK}.pyramid.lateral_convs.{3 - int(m[1])}.{m[2]}",
    ),
    (
        rf"yoso_neck\.deconv\.deform_conv([1-3])\.({_ANY_OF(_UPSAMPLING_PARTS)})\.(\w+)",
        lambda m: f"{NECK}.pyramid.upsamplings.{3 - int(m[1])}.{_UPSAMPLING_PARTS[m[2]]}.{m[3]}",
    ),
    (
        r"yoso_neck\.deconv\.conv_a([2-5])\.weight",
        lambda m: f"{NECK}.aggregation.level_convs.{int(m[1]) - 2}.weight",
    ),
    (r"yoso_neck\.deconv\.bias", lambda m: f"{NECK}.aggregation.bias"),
    (r"yoso_neck\.deconv\.output_conv\.(\w+)", lambda m: f"{NECK}.output_conv.{m[1]}"),
    (r"yoso_neck\.loc_conv\.(\w+)", lambda m: f"{NECK}.location_conv.{m[1]}"),
    (r"yoso_head\.kernels\.(\w+)", lambda m: f"{DECODER}.proposal_kernels.{m[1]}"),
    (
        _STAGE + rf"\.(?P<part>{_ANY_OF(map(re.escape, _STAGE_PARTS))})\.(?P<leaf>\w+)",
        lambda m: f"{DECODER}.stages.{m['stage']}.{_STAGE_PARTS[m['part']]}.{m['leaf']}",
    ),
    (_STAGE + r"\.(?P<branch>cls|mask)_fcs\.(?P<index>\d+)\.(?P<leaf>\w+)", _hidden_layer),
    (_STAGE + r"\.fc_cls\.(?P<leaf>\w+)", lambda m: f"class_branches.{m['stage']}.classifier.{m['leaf']}"),
)

# Official self-attention projects queries, keys and values with one matrix; ours has three.
_PACKED_PROJECTION = re.compile(_STAGE + r"\.s_atten\.in_proj_(?P<leaf>weight|bias)")


def rename_official_key(key: str) -> str | None:
    """Our name of an official parameter, or `None` for an unknown one.

    The packed projection of the self-attention, which becomes three parameters, is not renamed here.
    """
    for pattern, renamed in RENAMINGS:
        if match := re.fullmatch(pattern, key):
            return renamed(match)
    return None


def _split_projection(match: re.Match, value: Tensor) -> dict[str, Tensor]:
    attention = f"{DECODER}.stages.{match['stage']}.post_attention.self_attention"
    names = (f"{attention}.{projection}.{match['leaf']}" for projection in ("q_proj", "k_proj", "v_proj"))
    return dict(zip(names, (part.clone() for part in value.chunk(3)), strict=True))


def convert_official_state_dict(state_dict: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Official state dict -> state dict of `model`, complete and with fitting shapes.

    Args:
        state_dict: Official names and tensors, see `load_official_state_dict`.
        model: The [`YosoForUniversalSegmentation`] the result is for; its own weights are not read.

    Returns:
        `dict[str, Tensor]`: one entry for each entry of `model.state_dict()`.

    Raises:
        ValueError: if an official key is unknown or has no place in `model`, one of `model` is not filled, a shape
            differs, or the checkpoint was made for another image normalisation. All keys at fault are named.
    """
    expected = model.state_dict()
    converted: dict[str, Tensor] = {}
    left_over = []
    for key, value in state_dict.items():
        if key in IMAGE_MEAN_AND_STD:
            _check_normalisation(key, value)
        elif match := _PACKED_PROJECTION.fullmatch(key):
            converted.update(_split_projection(match, value))
        elif (renamed := rename_official_key(key)) in expected:
            converted[renamed] = value
        elif key != CLASS_WEIGHTS and (renamed is None or not key.endswith(BATCH_COUNTER)):
            left_over.append(key)
    for key, value in expected.items():
        if key.endswith(BATCH_COUNTER):
            converted.setdefault(key, torch.zeros_like(value, device="cpu"))
    _check_complete(converted, expected, left_over)
    return converted


def _check_normalisation(key: str, value: Tensor) -> None:
    expected = torch.tensor(IMAGE_MEAN_AND_STD[key])
    if value.numel() != 3 or not torch.allclose(value.float().flatten(), expected):
        raise ValueError(
            f"The checkpoint's {key!r} is {value.flatten().tolist()}, the released models use {expected.tolist()}."
        )


def _check_complete(converted: dict[str, Tensor], expected: dict[str, Tensor], left_over: list[str]) -> None:
    left_over = [*left_over, *(key for key in converted if key not in expected)]
    missing = [key for key in expected if key not in converted]
    shapes = [
        f"{key} {tuple(converted[key].shape)} instead of {tuple(value.shape)}"
        for key, value in expected.items()
        if key in converted and converted[key].shape != value.shape
    ]
    problems = (("left-over keys", left_over), ("missing keys", missing), ("other shapes", shapes))
    if found := [f"{title}: {', '.join(keys)}" for title, keys in problems if keys]:
        raise ValueError(f"The checkpoint does not fit this model (right dataset?); {'; '.join(found)}.")
