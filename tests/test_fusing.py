"""`fuse()`: the inference form gives the plain form's outputs, can be undone, and never reaches what is saved."""

import copy
import io
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import ResNetConfig, TimmBackboneConfig, pipeline

from test_backbones import BACKBONES
from tiny_yoso import random_labels, tiny_model
from transformers_yoso import YosoForUniversalSegmentation, YosoImageProcessor, YosoModel
from transformers_yoso.models.inference_form import TRANSFORMATIONS

SIZE = (64, 96)
EACH_ALONE = [[name] for name in TRANSFORMATIONS]
ALL_BUT_ONE = [[other for other in TRANSFORMATIONS if other != name] for name in TRANSFORMATIONS]


@torch.no_grad()
def lively_model(**changes: object) -> YosoForUniversalSegmentation:
    """A tiny model whose norms do something, as after training, and whose offsets reach over the border."""
    model = tiny_model(**changes)
    for module in model.modules():
        if getattr(module, "running_mean", None) is not None:
            module.running_mean.normal_(std=0.3)
            module.running_var.uniform_(0.5, 2)
            module.weight.uniform_(0.5, 1.5)
            module.bias.normal_(std=0.3)
    for upsampling in model.model.feature_pyramid_aggregator.pyramid.upsamplings:
        upsampling.deformable_conv.offset_conv.bias.normal_(std=2)
    return model


def max_relative_error(actual: Tensor, expected: Tensor) -> float:
    return ((actual - expected).abs().max() / expected.abs().max()).item()


@torch.no_grad()
def assert_equal_outputs(model: YosoForUniversalSegmentation, fused: YosoForUniversalSegmentation, **inputs: Tensor):
    """All outputs of a float64 model and its fused copy, within 1e-9."""
    options = {"output_auxiliary_logits": True, "output_hidden_states": True}
    expected, found = model(**inputs, **options), fused(**inputs, **options)
    for name in ("class_queries_logits", "masks_queries_logits", "last_hidden_state"):
        assert max_relative_error(found[name], expected[name]) < 1e-9, name
    for found_stage, expected_stage in zip(found.auxiliary_logits, expected.auxiliary_logits, strict=True):
        for name, logits in expected_stage.items():
            assert max_relative_error(found_stage[name], logits) < 1e-9, name
    for found_state, expected_state in zip(found.hidden_states, expected.hidden_states, strict=True):
        assert max_relative_error(found_state, expected_state) < 1e-9


@pytest.fixture(scope="module")
def double_model() -> YosoForUniversalSegmentation:
    """In float64 no hard mask flips by rounding."""
    return lively_model().double()


# Equality


@pytest.mark.parametrize("names", [None, *EACH_ALONE, *ALL_BUT_ONE, []], ids=str)
def test_every_transformation_gives_equal_outputs(double_model: YosoForUniversalSegmentation, names) -> None:
    torch.manual_seed(0)
    fused = copy.deepcopy(double_model).fuse(names)
    assert_equal_outputs(double_model, fused, pixel_values=torch.randn(2, 3, *SIZE, dtype=torch.float64))


@pytest.mark.parametrize("names", [None, *EACH_ALONE], ids=str)
def test_every_transformation_is_near_in_float32(names) -> None:
    """Later stages depend on hard masks that rounding may flip, so compare what lies before them."""
    torch.manual_seed(0)
    model, pixel_values = lively_model(), torch.randn(2, 3, *SIZE)
    with torch.no_grad():
        expected = model(pixel_values, output_auxiliary_logits=True).auxiliary_logits[0]["masks_queries_logits"]
        found = model.fuse(names)(pixel_values, output_auxiliary_logits=True).auxiliary_logits[0]
    assert max_relative_error(found["masks_queries_logits"], expected) < 1e-5


@pytest.mark.parametrize("name", [name for name in BACKBONES if name != "resnet101"])
def test_every_backbone(name: str) -> None:
    torch.manual_seed(0)
    model = lively_model(backbone=name, pyramid_channels=[8, 16, 16, 24]).double()
    fused = copy.deepcopy(model).fuse()
    for size in (SIZE, (96, 32)):
        assert_equal_outputs(model, fused, pixel_values=torch.randn(1, 3, *size, dtype=torch.float64))
    has_norms = name not in ("convnext_tiny", "swin_tiny_patch4_window7_224", "fastvit_t8")
    if has_norms:
        left = [part for part in fused.model.inference_form.backbone.modules() if hasattr(part, "running_mean")]
        assert not left


@pytest.mark.parametrize(
    "changes",
    [
        {"backbone_config": TimmBackboneConfig(backbone="test_resnet", freeze_batch_norm_2d=True)},
        {"backbone_config": ResNetConfig(depths=[1] * 4, hidden_sizes=[16, 16, 32, 32], out_indices=[1, 2, 3, 4])},
        {"num_stages": 3, "num_attention_blocks": 1, "num_class_layers": 3, "num_mask_layers": 3},
        {"num_queries": 15, "dynamic_kernel_size": 5, "num_class_layers": 0, "num_mask_layers": 0},
    ],
)
def test_every_kind_of_config(changes: dict) -> None:
    torch.manual_seed(0)
    model = lively_model(**changes).double()
    fused = copy.deepcopy(model).fuse()
    assert_equal_outputs(model, fused, pixel_values=torch.randn(1, 3, *SIZE, dtype=torch.float64))


def test_photos_of_different_sizes(double_model: YosoForUniversalSegmentation) -> None:
    torch.manual_seed(0)
    pixel_values, pixel_mask = torch.randn(3, 3, 64, 96, dtype=torch.float64), torch.zeros(3, 64, 96)
    for index, (height, width) in enumerate([(64, 96), (40, 90), (32, 64)]):
        pixel_mask[index, :height, :width] = 1
    pixel_values = pixel_values * pixel_mask[:, None]
    fused = copy.deepcopy(double_model).fuse()
    assert_equal_outputs(double_model, fused, pixel_values=pixel_values, pixel_mask=pixel_mask)
    odd = torch.randn(1, 3, 33, 47, dtype=torch.float64)
    assert_equal_outputs(double_model, fused, pixel_values=odd)


def test_same_panoptic_map_of_a_photo(shared_dir: Path) -> None:
    root = Path(__file__).resolve().parents[1] / "checkpoints/yoso-lite0-facade"
    model, processor = YosoForUniversalSegmentation.from_pretrained(root), YosoImageProcessor.from_pretrained(root)
    photo = Image.open(sorted((shared_dir / "data/facade/val").glob("*.jpg"))[0])
    inputs = processor(photo, size={"shortest_edge": 256, "longest_edge": 512}, return_tensors="pt")
    maps = []
    for fuse in (False, True):
        with torch.inference_mode():
            outputs = (model.fuse() if fuse else model)(**inputs)
        (result,) = processor.post_process_panoptic_segmentation(outputs, target_sizes=[photo.size[::-1]])
        maps.append(result)
    plain, fused = maps
    assert len(plain["segments_info"]) > 1
    assert (plain["segmentation"] == fused["segmentation"]).float().mean() >= 0.999
    assert [s["label_id"] for s in plain["segments_info"]] == [s["label_id"] for s in fused["segments_info"]]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model, pixel_values = lively_model(), torch.randn(1, 3, *SIZE)
    with torch.no_grad():
        expected = model(pixel_values, output_auxiliary_logits=True)
    outputs = model.fuse().to(dtype)(pixel_values, output_auxiliary_logits=True)
    assert outputs.masks_queries_logits.dtype == outputs.class_queries_logits.dtype == dtype
    found, proposals = (output.auxiliary_logits[0]["masks_queries_logits"] for output in (outputs, expected))
    assert max_relative_error(found.float(), proposals) < 0.1
    assert outputs.class_queries_logits.isfinite().all()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = model.float()(pixel_values)
    assert outputs.masks_queries_logits.dtype == torch.bfloat16
    assert outputs.masks_queries_logits.isfinite().all()


@pytest.mark.slow
def test_compiled_fused_model_is_equal() -> None:
    torch.manual_seed(0)
    model, pixel_values = lively_model().fuse(), torch.randn(1, 3, *SIZE)
    expected = model(pixel_values, output_auxiliary_logits=True)
    outputs = torch.compile(model)(pixel_values, output_auxiliary_logits=True)
    found, proposals = (output.auxiliary_logits[0]["masks_queries_logits"] for output in (outputs, expected))
    assert max_relative_error(found, proposals) < 1e-4
    torch.testing.assert_close(outputs.class_queries_logits, expected.class_queries_logits, rtol=1e-2, atol=1e-2)


# What stays plain


def test_saved_weights_are_the_plain_ones(tmp_path: Path) -> None:
    model = lively_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    parameters = [name for name, _ in model.named_parameters()]
    model.fuse()
    assert [name for name, _ in model.named_parameters()] == parameters
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    model.save_pretrained(tmp_path)
    assert set(load_file(tmp_path / "model.safetensors")) == set(before)
    loaded, info = YosoForUniversalSegmentation.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert not loaded.is_fused
    pixel_values = torch.randn(1, 3, *SIZE)
    with torch.no_grad():
        found, expected = loaded(pixel_values), model.unfuse()(pixel_values)
    assert torch.equal(found.masks_queries_logits, expected.masks_queries_logits)


def test_unfuse_gives_the_plain_model_back() -> None:
    torch.manual_seed(0)
    model, pixel_values = lively_model(), torch.randn(1, 3, *SIZE)
    expected = model(pixel_values)
    assert model.fuse() is model
    assert model.is_fused and model.model.is_fused
    assert model(pixel_values).feature_map is None
    assert model.unfuse() is model
    assert not model.is_fused
    found = model(pixel_values)
    assert torch.equal(found.feature_map, expected.feature_map)
    assert torch.equal(found.class_queries_logits, expected.class_queries_logits)
    loss = model.train()(pixel_values, **random_labels([2], SIZE)).loss
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_fused_model_refuses_to_train() -> None:
    model = lively_model().fuse()
    for part in (model, model.model):
        with pytest.raises(ValueError, match=r"unfuse\(\)"):
            part.train()
    assert not model.training
    with pytest.raises(ValueError, match=r"`eval\(\)`"):
        model.unfuse().train().fuse()
    with pytest.raises(ValueError, match="no_such"):
        model.eval().fuse({"no_such"})


def test_fused_model_gives_the_loss_without_gradients() -> None:
    torch.manual_seed(0)
    model, pixel_values, labels = (
        lively_model().double(),
        torch.randn(2, 3, *SIZE).double(),
        random_labels([3, 2], SIZE),
    )
    losses = []
    for fuse in (False, True):
        torch.manual_seed(1)  # the loss samples points
        losses.append((model.fuse() if fuse else model)(pixel_values, **labels).loss)
    torch.testing.assert_close(*losses)
    assert losses[0].requires_grad and not losses[1].requires_grad


def test_inference_form_follows_the_weights() -> None:
    torch.manual_seed(0)
    source, pixel_values = lively_model(), torch.randn(1, 3, *SIZE)
    model = tiny_model().fuse()
    model.load_state_dict(source.state_dict())
    assert_equal_outputs(copy.deepcopy(source).double(), model.double(), pixel_values=pixel_values.double())
    copies = [copy.deepcopy(model)]
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    copies.append(torch.load(buffer, weights_only=False))
    for other in copies:
        assert other.is_fused
        assert_equal_outputs(source.double(), other, pixel_values=pixel_values.double())


@pytest.mark.parametrize("fused", [False, True])
def test_masks_of_the_last_stage_alone(fused: bool) -> None:
    """They are those of all stages, of which the earlier ones are not kept."""
    model = lively_model().base_model
    model = model.fuse() if fused else model
    with torch.no_grad():
        every = model(torch.zeros(1, 3, *SIZE), output_hidden_states=True)
        last = model(torch.zeros(1, 3, *SIZE), output_hidden_states=True, every_stage=False)
    assert len(every.masks_queries_logits) == 1 + model.config.num_stages and len(last.masks_queries_logits) == 1
    assert torch.equal(last.masks_queries_logits[0], every.masks_queries_logits[-1])
    assert len(last.hidden_states) == 1 + model.config.num_stages


def test_base_model_can_be_fused() -> None:
    torch.manual_seed(0)
    model, pixel_values = lively_model().model.double(), torch.randn(1, 3, *SIZE).double()
    assert isinstance(model, YosoModel)
    with torch.no_grad():
        expected, found = model(pixel_values), model.fuse()(pixel_values)
    for found_logits, logits in zip(found.masks_queries_logits, expected.masks_queries_logits, strict=True):
        assert max_relative_error(found_logits, logits) < 1e-9


def test_quantised_or_spread_weights_are_refused() -> None:
    model = lively_model()
    model.hf_device_map = {"model.backbone": 0, "model.decoder": 1}
    with pytest.raises(ValueError, match="several devices"):
        model.fuse()


def test_a_replaced_backbone_is_used_as_it_is() -> None:
    """Not from timm, and stateful: no copy may be taken."""

    class Stored(nn.Module):
        channels = (4, 4, 4, 4)

        def forward(self, pixel_values: Tensor, **kwargs: bool):
            return type("Output", (), {"feature_maps": self.feature_maps})

    torch.manual_seed(0)
    model = lively_model()
    shapes = [
        (1, channels, 64 // stride, 96 // stride)
        for channels, stride in zip(model.model.backbone.channels, (4, 8, 16, 32), strict=True)
    ]
    model.model.backbone = Stored()
    model = model.double().fuse()
    pixel_values = torch.zeros(1, 3, *SIZE, dtype=torch.float64)
    for _ in range(2):
        model.model.backbone.feature_maps = [torch.randn(shape, dtype=torch.float64) for shape in shapes]
        plain = copy.deepcopy(model).unfuse()
        assert_equal_outputs(plain, model, pixel_values=pixel_values)


# The pipeline


def test_pipeline_fuses_and_gives_the_same_segments() -> None:
    root = Path(__file__).resolve().parents[1]
    photo = Image.open(root / "assets/facade_demo.jpg").resize((192, 160))
    segmenter = pipeline("image-segmentation", model=str(root / "checkpoints/yoso-lite0-facade"))
    segmenter.image_processor.size = {"shortest_edge": 160, "longest_edge": 320}
    assert segmenter.model.is_fused
    fused = segmenter(photo)
    segmenter.model.unfuse()
    plain = segmenter(photo)
    assert [segment["label"] for segment in fused] == [segment["label"] for segment in plain]
