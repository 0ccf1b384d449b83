"""Parts of training: parameter groups, schedules, averaging, log, fast layout."""

import pytest
import timm
import torch
from torch import nn

from training_runs import log_of, small_model
from transformers_yoso.training.ema import ExponentialMovingAverage
from transformers_yoso.training.json_log import JsonLinesLog
from transformers_yoso.training.parameter_groups import build_parameter_groups
from transformers_yoso.training.schedules import build_schedule
from transformers_yoso.training.speed import prepare_for_speed


def test_every_parameter_is_in_the_group_of_the_recipe(photos):
    model = small_model(photos.categories)
    groups = {group["name"]: group for group in build_parameter_groups(model, 1e-3, 0.1, 0.05)}
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    members = {group: [names[id(parameter)] for parameter in groups[group]["params"]] for group in groups}
    assert sorted(name for group in members.values() for name in group) == sorted(names.values())
    assert all("backbone" in name for group in members if group.startswith("backbone") for name in members[group])
    assert not any("backbone" in name for name in members["head_weight"] + members["head_norm"])
    norms = {name for name, module in model.named_modules() if isinstance(module, nn.LayerNorm | nn.BatchNorm2d)}
    assert {name.rsplit(".", 1)[0] for name in members["head_norm"]} == norms
    assert any(name.endswith("bias") for name in members["head_weight"])
    settings = {name: (group["lr"], group["weight_decay"]) for name, group in groups.items()}
    assert settings == {"head_weight": (1e-3, 0.05), "head_norm": (1e-3, 0.0), "backbone_weight": (1e-4, 0.05)}


@pytest.mark.parametrize("backbone", ["convnext_atto", "swin_tiny_patch4_window7_224"])
def test_norms_of_other_backbones_do_not_decay(backbone):
    model = nn.ModuleDict({"backbone": timm.create_model(backbone, features_only=True, pretrained=False)})
    groups = {group["name"]: group for group in build_parameter_groups(model, 1.0, 0.5, 0.05)}
    assert set(groups) == {"backbone_norm", "backbone_weight"}
    expected = sum("norm" in name for name, _ in model.named_parameters())
    assert 0 < expected <= len(groups["backbone_norm"]["params"])
    assert groups["backbone_norm"]["weight_decay"] == 0.0


def schedule_factors(name: str, steps: int, **options) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = build_schedule(optimizer, name, steps, **options)
    factors = []
    for _ in range(steps):
        factors.append(optimizer.param_groups[0]["lr"] / 2.0)
        optimizer.step()
        schedule.step()
    return [*factors, optimizer.param_groups[0]["lr"] / 2.0]


def test_schedules():
    poly = schedule_factors("poly", 10, num_warmup_steps=0)
    assert poly == pytest.approx([(1 - step / 10) ** 0.9 for step in range(11)])
    warm = schedule_factors("poly", 10, num_warmup_steps=4)
    assert warm[:5] == pytest.approx([(step + 1) / 5 * poly[step] for step in range(5)]) and warm[5:] == poly[5:]
    step = schedule_factors("step", 8, num_warmup_steps=0, milestones=[3, 6])
    assert step == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01])
    assert schedule_factors("constant", 3, num_warmup_steps=1) == [0.5, 1, 1, 1]
    with pytest.raises(ValueError, match="milestones"):
        schedule_factors("step", 8, num_warmup_steps=0)
    with pytest.raises(ValueError, match="cosine"):
        schedule_factors("cosine", 8, num_warmup_steps=0)


def test_average_of_weights():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = ExponentialMovingAverage(model, decay=0.9)
    expected = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for step in range(30):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        model(torch.randn(4, 2))
        average.update(model)
        decay = min(0.9, (1 + step) / (10 + step))
        for name, tensor in model.state_dict().items():
            keep = 0 if name.endswith("num_batches_tracked") else decay
            expected[name] = (keep * expected[name] + (1 - keep) * tensor).to(tensor.dtype)
    torch.testing.assert_close(dict(average.model.state_dict()), expected)
    assert not average.model.training and not any(p.requires_grad for p in average.model.parameters())
    with pytest.raises(ValueError, match="ema_decay"):
        ExponentialMovingAverage(model, decay=1.0)


def test_log_drops_what_an_interrupted_run_wrote_later(tmp_path):
    log = JsonLinesLog(tmp_path / "log.jsonl")
    for step in (1, 2, 3):
        log.append(step, loss=step / 2)
    with (tmp_path / "log.jsonl").open("a") as stream:
        stream.write('{"step": 4, "lo')
    JsonLinesLog(tmp_path / "log.jsonl", start_step=2).append(3, loss=9.0)
    assert [line["loss"] for line in log_of(tmp_path)] == [0.5, 1.0, 9.0]


def test_fast_cpu_layout_changes_nothing_but_rounding():
    torch.manual_seed(0)
    plain = timm.create_model("tf_efficientnet_lite0", features_only=True, pretrained=False).eval()
    fast = timm.create_model("tf_efficientnet_lite0", features_only=True, pretrained=False).eval()
    fast.load_state_dict(plain.state_dict())
    prepare_for_speed(fast, torch.device("cpu"))
    pixels = torch.randn(2, 3, 64, 64)
    for expected, actual in zip(plain(pixels), fast(pixels), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        assert fast.blocks[0][0].conv_dw(torch.randn(1, 32, 8, 8, dtype=torch.bfloat16)).dtype == torch.float32
        sum(level.float().mean() for level in fast(pixels)).backward()
    assert fast.blocks[0][0].conv_dw.weight.grad.isfinite().all()


def test_weights_that_fsdp2_will_spread_stay_plain(photos):
    model = small_model(photos.categories)
    prepare_for_speed(model, torch.device("cpu"), is_sharded=True)
    assert all(parameter.is_contiguous() for parameter in model.parameters())
    for module in model.modules():
        assert all(getattr(module, name) is parameter for name, parameter in module.named_parameters(recurse=False))
    assert model.get_input_embeddings() is None  # Accelerate asks
