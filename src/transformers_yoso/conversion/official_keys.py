"""Strict renaming of the official (detectron2) parameters: every key is mapped, or listed here as dropped."""

import re
from collections.abc import Callable, Iterable
from itertools import product

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


def renamed_official_key(key: str) -> tuple[str, ...]:
    """Our names of an official parameter: three for the packed projection, none for an unknown parameter."""
    if match := _PACKED_PROJECTION.fullmatch(key):
        attention = f"{DECODER}.stages.{match['stage']}.post_attention.self_attention"
        return tuple(f"{attention}.{projection}.{match['leaf']}" for projection in ("q_proj", "k_proj", "v_proj"))
    for pattern, renamed in RENAMINGS:
        if match := re.fullmatch(pattern, key):
            return (renamed(match),)
    return ()


def official_names(our_keys: Iterable[str]) -> dict[str, str]:
    """Official name of each of our keys, found by renaming every official name such a model could have."""
    our_keys = list(our_keys)
    leaves = {key.rpartition(".")[2] for key in our_keys}
    indices = range(1 + max((int(index) for key in our_keys for index in re.findall(r"\.(\d+)", key)), default=0))

    convolutions = ["backbone.stem.conv1"]
    for stage, block, name in product(range(2, 6), indices, ("shortcut", "conv1", "conv2", "conv3")):
        convolutions.append(f"backbone.res{stage}.{block}.{name}")
    modules = [*convolutions, *(f"{name}.norm" for name in convolutions)]

    neck_parts = ["output_conv", *(f"lateral_conv{index}" for index in range(4))]
    neck_parts += [f"conv_a{level}" for level in range(2, 6)]
    neck_parts += [f"deform_conv{index}.{part}" for index, part in product(range(1, 4), _UPSAMPLING_PARTS)]
    modules += ["yoso_neck.deconv", *(f"yoso_neck.deconv.{part}" for part in neck_parts)]
    modules += ["yoso_neck.loc_conv", "yoso_head.kernels"]

    head_parts = ["fc_cls", *_STAGE_PARTS]
    head_parts += [f"{branch}_fcs.{index}" for branch, index in product(("cls", "mask"), range(3 * len(indices)))]
    modules += [f"yoso_head.mask_heads.{stage}.{part}" for stage, part in product(indices, head_parts)]

    candidates = [f"{module}.{leaf}" for module, leaf in product(modules, leaves)]
    candidates += [
        f"yoso_head.mask_heads.{stage}.s_atten.in_proj_{leaf}" for stage, leaf in product(indices, ("weight", "bias"))
    ]
    found = {ours: official for official in candidates for ours in renamed_official_key(official)}
    return {key: found.get(key, key) for key in our_keys}


def convert_official_state_dict(state_dict: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Official state dict -> state dict of `model`, complete and with fitting shapes.

    Args:
        state_dict: Official names and tensors, see `load_official_state_dict`.
        model: The [`YosoForUniversalSegmentation`] the result is for; its own weights are not read.

    Returns:
        `dict[str, Tensor]`: one entry for each entry of `model.state_dict()`.

    Raises:
        ValueError: if an official key is unknown or has no place in `model`, one of `model` is not filled, a shape
            differs, or the checkpoint was made for another image normalisation. All keys at fault
            are named, as the checkpoint names them.
    """
    expected = model.state_dict()
    converted: dict[str, Tensor] = {}
    left_over, other_shapes = [], []
    for key, value in state_dict.items():
        names = renamed_official_key(key)
        if key in IMAGE_MEAN_AND_STD:
            _check_normalisation(key, value)
        elif names and all(name in expected for name in names):
            shape = expected[names[0]].shape
            if len(names) > 1:
                shape = torch.Size((len(names) * shape[0], *shape[1:]))
            if value.shape != shape:
                other_shapes.append(f"{key} {tuple(value.shape)} instead of {tuple(shape)}")
                converted.update(dict.fromkeys(names, value))
            elif len(names) > 1:
                converted.update(zip(names, (part.clone() for part in value.chunk(len(names))), strict=True))
            else:
                converted[names[0]] = value
        elif key != CLASS_WEIGHTS and not (names and key.endswith(BATCH_COUNTER)):
            left_over.append(key)
    for key, value in expected.items():
        if key.endswith(BATCH_COUNTER):
            converted.setdefault(key, torch.zeros_like(value, device="cpu"))
    missing = [key for key in expected if key not in converted]
    if missing:
        names = official_names(expected)
        missing = list(dict.fromkeys(names[key] for key in missing))
    problems = (("left-over keys", left_over), ("missing keys", missing), ("other shapes", other_shapes))
    if found := [f"{title}: {', '.join(keys)}" for title, keys in problems if keys]:
        raise ValueError(f"The checkpoint does not fit this model (right dataset?); {'; '.join(found)}.")
    return converted


def _check_normalisation(key: str, value: Tensor) -> None:
    expected = torch.tensor(IMAGE_MEAN_AND_STD[key])
    if value.numel() != 3 or not torch.allclose(value.float().flatten(), expected):
        raise ValueError(
            f"The checkpoint's {key!r} is {value.flatten().tolist()}, the released models use {expected.tolist()}."
        )
