"""The model as a user runs it: shapes, sizes, batches, dtypes, compilation, and clear errors."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from transformers import TimmBackboneConfig, set_seed
from transformers.utils.import_utils import is_torch_greater_or_equal

from tiny_yoso import photo_tensor, random_labels, tiny_config, tiny_model
from transformers_yoso import YosoForUniversalSegmentation, YosoModel
from transformers_yoso.models.canvas import OUTSIDE_LOGIT
from transformers_yoso.models.dynamic_conv_attention import SeparableDynamicConvAttention
from transformers_yoso.models.pre_attention import PreAttention


@pytest.fixture(scope="module")
def model() -> YosoForUniversalSegmentation:
    return tiny_model()


@pytest.fixture(scope="module")
def double_model() -> YosoForUniversalSegmentation:
    """In float64 no hard mask flips by rounding, so that what is equal stays equal."""
    return tiny_model().double()


def pad_batch(images: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Images `(3, h_i, w_i)` -> `pixel_values` and `pixel_mask` of the least common size."""
    height, width = (max(image.shape[axis] for image in images) for axis in (1, 2))
    pixel_values, pixel_mask = torch.zeros(len(images), 3, height, width), torch.zeros(len(images), height, width)
    for index, image in enumerate(images):
        pixel_values[index, :, : image.shape[1], : image.shape[2]] = image
        pixel_mask[index, : image.shape[1], : image.shape[2]] = 1
    return pixel_values, pixel_mask


def max_relative_error(actual: Tensor, expected: Tensor) -> float:
    return ((actual - expected).abs().max() / expected.abs().max()).item()


# Outputs


def test_base_model_gives_features_kernels_and_masks_of_every_stage() -> None:
    set_seed(0)
    outputs = YosoModel(tiny_config(num_stages=3)).eval()(torch.randn(2, 3, 64, 96))
    assert outputs.feature_map.shape == (2, 32, 16, 24)
    assert [kernels.shape for kernels in outputs.kernels] == [(2, 10, 32)] * 4
    assert [masks.shape for masks in outputs.masks_queries_logits] == [(2, 10, 16, 24)] * 4
    assert torch.equal(outputs.last_hidden_state, outputs.kernels[-1])
    assert (outputs.hidden_states, outputs.attentions, outputs.image_sizes) == (None, None, None)
    # The proposal kernels are those of every image.
    assert torch.equal(outputs.kernels[0][0], outputs.kernels[0][1])


def test_segmentation_model_gives_the_last_stage_unless_asked_for_more(model: YosoForUniversalSegmentation) -> None:
    outputs = model(torch.randn(2, 3, 64, 96))
    assert outputs.class_queries_logits.shape == (2, 10, 7)
    assert outputs.masks_queries_logits.shape == (2, 10, 16, 24)
    assert outputs.last_hidden_state.shape == (2, 10, 32)
    assert outputs.feature_map.shape == (2, 32, 16, 24)
    for absent in ("loss", "loss_dict", "auxiliary_logits", "hidden_states", "attentions", "image_sizes"):
        assert outputs[absent] is None if absent in outputs else getattr(outputs, absent) is None


def test_auxiliary_logits_are_those_of_the_earlier_stages(model: YosoForUniversalSegmentation) -> None:
    pixel_values = torch.randn(2, 3, 64, 96)
    outputs = model(pixel_values, output_auxiliary_logits=True)
    first, second = outputs.auxiliary_logits
    assert set(first) == {"masks_queries_logits"}
    assert set(second) == {"masks_queries_logits", "class_queries_logits"}
    assert second["class_queries_logits"].shape == (2, 10, 7)
    stages = model.model(pixel_values).masks_queries_logits
    for found, expected in zip((first, second, outputs), stages, strict=True):
        assert torch.equal(found["masks_queries_logits"], expected)
    assert len(model.train()(pixel_values).auxiliary_logits) == 2
    model.eval()


def test_hidden_states_are_the_kernels_of_every_stage(model: YosoForUniversalSegmentation) -> None:
    outputs = model(torch.randn(1, 3, 64, 96), output_hidden_states=True)
    assert [kernels.shape for kernels in outputs.hidden_states] == [(1, 10, 32)] * 3
    assert torch.equal(outputs.hidden_states[0][0], model.model.decoder.proposal_kernels.weight.flatten(1))
    assert torch.equal(outputs.hidden_states[-1], outputs.last_hidden_state)


def test_eager_attention_gives_weights_and_equals_sdpa(double_model: YosoForUniversalSegmentation) -> None:
    pixel_values = torch.randn(2, 3, 64, 96)
    assert double_model.config._attn_implementation == "sdpa"
    expected = double_model(pixel_values)
    double_model.set_attn_implementation("eager")
    outputs = double_model(pixel_values, output_attentions=True)
    double_model.set_attn_implementation("sdpa")
    assert [weights.shape for weights in outputs.attentions] == [(2, 4, 10, 10)] * 2
    torch.testing.assert_close(outputs.attentions[0].sum(-1), torch.ones(2, 4, 10, dtype=torch.float64))
    torch.testing.assert_close(outputs.masks_queries_logits, expected.masks_queries_logits)
    torch.testing.assert_close(outputs.class_queries_logits, expected.class_queries_logits)


def test_classes_are_divided_by_the_temperature() -> None:
    pixel_values = torch.randn(1, 3, 64, 64)
    cold, warm = (tiny_model(temperature=temperature)(pixel_values) for temperature in (0.05, 1))
    torch.testing.assert_close(cold.class_queries_logits, 20 * warm.class_queries_logits)


@pytest.mark.parametrize("hidden_layers", [0, 3])
def test_branches_have_as_many_hidden_layers_as_asked(hidden_layers: int) -> None:
    model = tiny_model(num_class_layers=hidden_layers, num_mask_layers=hidden_layers, num_attention_blocks=1)
    assert [len(branch.layers) for branch in model.class_branches] == [hidden_layers] * 2
    assert len(model.model.decoder.stages[0].mask_branch.layers) == hidden_layers
    assert model(torch.randn(1, 3, 64, 64)).masks_queries_logits.isfinite().all()


# Any size and any batch


@pytest.mark.parametrize("size", [(33, 47), (1, 1), (64, 65), (100, 31)])
def test_any_image_size_equals_the_image_padded_by_hand(
    model: YosoForUniversalSegmentation, size: tuple[int, int]
) -> None:
    image = torch.randn(1, 3, *size)
    canvas = [-(-length // 32) * 32 for length in size]
    padded = F.pad(image, (0, canvas[1] - size[1], 0, canvas[0] - size[0]))
    pixel_mask = F.pad(torch.ones(1, *size), (0, canvas[1] - size[1], 0, canvas[0] - size[0]))
    alone, by_hand = model(image), model(padded, pixel_mask=pixel_mask)
    assert alone.masks_queries_logits.shape == (1, 10, canvas[0] // 4, canvas[1] // 4)
    assert alone.image_sizes.tolist() == by_hand.image_sizes.tolist() == [list(size)]
    for name in ("masks_queries_logits", "class_queries_logits", "feature_map"):
        assert torch.equal(alone[name], by_hand[name])


def test_batch_of_photos_of_different_sizes_equals_each_alone(
    double_model: YosoForUniversalSegmentation, shared_dir: Path
) -> None:
    photos = sorted((shared_dir / "data/coco_panoptic_sample/val2017").glob("*.jpg"))
    sizes = [(96, 128), (64, 100), (160, 64), (90, 120)]
    images = [photo_tensor(Image.open(photos[index % 2]), size) for index, size in enumerate(sizes)]
    pixel_values, pixel_mask = pad_batch(images)
    assert pixel_values.shape == (4, 3, 160, 128)
    options = {"output_hidden_states": True, "output_auxiliary_logits": True}
    with torch.no_grad():
        together = double_model(pixel_values, pixel_mask=pixel_mask, **options)
        alone = [double_model(image[None], **options) for image in images]
    assert together.image_sizes.tolist() == [list(size) for size in sizes]
    for index, single in enumerate(alone):
        height, width = single.masks_queries_logits.shape[-2:]
        inside = (index, slice(None), slice(height), slice(width))
        close = {"rtol": 1e-8, "atol": 1e-8}
        torch.testing.assert_close(together.class_queries_logits[index], single.class_queries_logits[0], **close)
        torch.testing.assert_close(together.masks_queries_logits[inside], single.masks_queries_logits[0], **close)
        torch.testing.assert_close(together.feature_map[inside], single.feature_map[0], **close)
        for found, expected in zip(together.hidden_states, single.hidden_states, strict=True):
            torch.testing.assert_close(found[index], expected[0], **close)
        for found, expected in zip(together.auxiliary_logits, single.auxiliary_logits, strict=True):
            torch.testing.assert_close(found["masks_queries_logits"][inside], expected["masks_queries_logits"][0])
        outside = torch.ones(together.masks_queries_logits.shape[-2:], dtype=torch.bool)
        outside[:height, :width] = False
        assert (together.masks_queries_logits[index][:, outside] == OUTSIDE_LOGIT).all()
        assert not together.feature_map[index][:, outside].any()


def test_order_of_a_mixed_batch_is_kept_with_eager_attention_weights(
    double_model: YosoForUniversalSegmentation,
) -> None:
    torch.manual_seed(0)
    images = [torch.randn(3, *size) for size in ((64, 64), (32, 64), (64, 60), (30, 64))]
    double_model.set_attn_implementation("eager")
    batch, mask = pad_batch(images)
    together = double_model(batch, pixel_mask=mask, output_attentions=True)
    for index, image in enumerate(images):
        expected = double_model(image[None], output_attentions=True).attentions[-1][0]
        torch.testing.assert_close(together.attentions[-1][index], expected)
    double_model.set_attn_implementation("sdpa")


def test_mask_of_the_full_canvas_changes_nothing(model: YosoForUniversalSegmentation) -> None:
    pixel_values = torch.randn(2, 3, 64, 96)
    plain = model(pixel_values)
    for dtype in (torch.long, torch.bool, torch.float32):
        masked = model(pixel_values, pixel_mask=torch.ones(2, 64, 96, dtype=dtype))
        assert masked.image_sizes.tolist() == [[64, 96]] * 2
        assert torch.equal(masked.masks_queries_logits, plain.masks_queries_logits)
        assert torch.equal(masked.class_queries_logits, plain.class_queries_logits)


def test_padding_of_whole_strides_does_not_change_the_photo(double_model: YosoForUniversalSegmentation) -> None:
    image = torch.randn(1, 3, 64, 96)
    padded, mask = F.pad(image, (0, 64, 0, 32)), F.pad(torch.ones(1, 64, 96), (0, 64, 0, 32))
    outputs, expected = double_model(padded, pixel_mask=mask), double_model(image)
    torch.testing.assert_close(outputs.masks_queries_logits[..., :16, :24], expected.masks_queries_logits)
    torch.testing.assert_close(outputs.class_queries_logits, expected.class_queries_logits)


def test_empty_pixel_mask_gives_finite_outputs(model: YosoForUniversalSegmentation) -> None:
    outputs = model(torch.zeros(1, 3, 64, 64), pixel_mask=torch.zeros(1, 64, 64))
    assert outputs.class_queries_logits.isfinite().all()
    assert outputs.masks_queries_logits.isfinite().all()


# Precision


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.1), (torch.float16, 0.01)])
def test_half_precision_is_finite_and_near_float32(dtype: torch.dtype, tolerance: float) -> None:
    torch.manual_seed(0)
    pixel_values, pixel_mask = pad_batch([torch.randn(3, 64, 96), torch.randn(3, 40, 64)])
    expected = tiny_model()(pixel_values, pixel_mask=pixel_mask, output_auxiliary_logits=True)
    outputs = tiny_model().to(dtype)(pixel_values, pixel_mask=pixel_mask, output_auxiliary_logits=True)
    assert outputs.masks_queries_logits.dtype == outputs.class_queries_logits.dtype == dtype
    assert outputs.masks_queries_logits.isfinite().all()
    assert outputs.class_queries_logits.isfinite().all()
    # Later stages depend on hard masks, which may flip by rounding.
    assert max_relative_error(outputs.feature_map.float(), expected.feature_map) < tolerance
    found, proposals = (output.auxiliary_logits[0]["masks_queries_logits"] for output in (outputs, expected))
    assert max_relative_error(found[0].float(), proposals[0]) < tolerance
    similarity = F.cosine_similarity(outputs.last_hidden_state.float(), expected.last_hidden_state, dim=-1)
    assert similarity.mean() > 0.95


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_trains(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = tiny_model().to(dtype).train()
    loss = model(torch.randn(2, 3, 64, 96), **random_labels([3, 2], (64, 96))).loss
    loss.backward()
    assert loss.isfinite()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_autocast_trains_and_is_near_float32() -> None:
    torch.manual_seed(0)
    model, pixel_values, labels = tiny_model(), torch.randn(2, 3, 64, 96), random_labels([3, 2], (64, 96))
    expected = model(pixel_values).feature_map
    with torch.autocast("cpu", torch.bfloat16):
        outputs = model(pixel_values, **labels)
    outputs.loss.backward()
    assert outputs.loss.dtype == torch.float32
    assert outputs.loss.isfinite()
    assert max_relative_error(outputs.feature_map.float(), expected) < 0.1
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_pre_attention_of_a_large_mask_does_not_overflow_in_float16() -> None:
    torch.manual_seed(0)
    features = 10 * torch.where(torch.rand(1, 4, 1, 1) > 0.5, 1.0, -1.0) + torch.randn(1, 4, 200, 336)
    mask_logits = torch.ones(1, 3, 200, 336)
    mask_logits[:, 1, :, 100:] = -1
    mask_logits[:, 2] = -1
    expected = PreAttention()(mask_logits.double(), features.double())
    assert expected[0, 0].abs().max() > 600_000
    pooled = PreAttention()(mask_logits.half(), features.half())
    assert pooled.dtype == torch.float32
    assert max_relative_error(pooled.double(), expected) < 1e-2
    assert not pooled[0, 2].any()


def test_pre_attention_sums_the_features_under_the_hard_mask() -> None:
    torch.manual_seed(0)
    mask_logits = torch.randn(2, 3, 5, 7, dtype=torch.float64, requires_grad=True)
    features = torch.randn(2, 4, 5, 7, dtype=torch.float64, requires_grad=True)
    pooled = PreAttention()(mask_logits, features)
    hard = (mask_logits.sigmoid() > 0.5).double()
    torch.testing.assert_close(pooled, torch.einsum("bnhw,bdhw->bnd", hard, features))
    pooled.sum().backward()
    assert mask_logits.grad is None
    assert features.grad.any()


# The paper's definition of SDCA


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
def test_sdca_equals_a_loop_over_images_and_queries(kernel_size: int) -> None:
    torch.manual_seed(0)
    sdca = SeparableDynamicConvAttention(hidden_dim=16, num_queries=6, kernel_size=kernel_size).double()
    queries, values = torch.randn(2, 3, 6, 16, dtype=torch.float64).unbind()
    expected = torch.zeros_like(values)
    for image in range(3):
        kernels = sdca.dynamic_kernels(queries[image])
        depthwise = []
        for query in range(6):
            kernel = kernels[query, :kernel_size].view(1, 1, -1)
            depthwise.append(F.conv1d(values[image, query].view(1, 1, -1), kernel, padding=kernel_size // 2).relu())
        mixed = torch.cat(depthwise, dim=1)
        for query in range(6):
            row = kernels[query, kernel_size:].view(1, 6, 1)
            expected[image, query] = sdca.norm(F.conv1d(mixed, row)[0, 0])
    torch.testing.assert_close(sdca(queries, values), expected)


# Compilation and checkpointing


# Transformers' own models do not compile with torch 2.6 either: NameError, name 'torch' is not defined.
compiles = pytest.mark.skipif(not is_torch_greater_or_equal("2.7"), reason="torch 2.6 cannot compile Transformers")


@pytest.fixture
def fresh_dynamo():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def assert_same_result(actual, expected, tolerance: float = 1e-4) -> None:
    for name in ("masks_queries_logits", "class_queries_logits", "feature_map"):
        assert actual[name].shape == expected[name].shape
        assert max_relative_error(actual[name], expected[name]) < tolerance, name
    assert (actual.image_sizes is None) == (expected.image_sizes is None)
    assert actual.image_sizes is None or torch.equal(actual.image_sizes, expected.image_sizes)


@compiles
@pytest.mark.usefixtures("fresh_dynamo")
def test_compiled_forward_is_one_graph_for_all_sizes() -> None:
    graphs = []

    def count_graphs(graph: torch.fx.GraphModule, example_inputs: list):
        graphs.append(graph)
        return graph

    model = tiny_model(num_stages=1)
    compiled = torch.compile(model, fullgraph=True, backend=count_graphs, dynamic=True)
    torch.manual_seed(0)
    with torch.no_grad():
        for size in ((64, 96), (96, 64), (128, 160)):
            pixel_values = torch.randn(2, 3, *size)
            assert_same_result(compiled(pixel_values), model(pixel_values))
        assert len(graphs) == 1
        for size in ((50, 75), (96, 64)):
            pixel_values, pixel_mask = torch.randn(2, 3, *size), torch.ones(2, *size)
            expected = model(pixel_values, pixel_mask=pixel_mask)
            assert_same_result(compiled(pixel_values, pixel_mask=pixel_mask), expected)
            # A compiled model takes the whole batch as one canvas.
            pixel_mask[1, 40:], pixel_mask[0, :, 60:] = 0, 0
            outputs = compiled(pixel_values, pixel_mask=pixel_mask)
            assert outputs.image_sizes.tolist() == [[size[0], 60], [40, size[1]]]
            assert max_relative_error(outputs.masks_queries_logits, expected.masks_queries_logits) < 1e-4
        assert len(graphs) == 2


@compiles
@pytest.mark.usefixtures("fresh_dynamo")
@pytest.mark.slow
def test_compiled_by_aot_autograd() -> None:
    model = tiny_model()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager", dynamic=True)
    with torch.no_grad():
        for size in ((64, 96), (96, 64)):
            pixel_values = torch.randn(2, 3, *size)
            assert_same_result(compiled(pixel_values), model(pixel_values))


@compiles
@pytest.mark.usefixtures("fresh_dynamo")
@pytest.mark.parametrize("backend", ["eager", pytest.param("aot_eager", marks=pytest.mark.slow)])
def test_compiled_training_forward_equals_the_plain_one(backend: str) -> None:
    model, plain = tiny_model(num_stages=1).train(), tiny_model(num_stages=1).train()
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    pixel_values = torch.randn(2, 3, 64, 96)
    found, expected = compiled(pixel_values), plain(pixel_values)
    assert_same_result(found, expected)
    assert (
        max_relative_error(*(output.auxiliary_logits[0]["masks_queries_logits"] for output in (found, expected)))
        < 1e-4
    )
    for one, other in zip(model.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(one, other)
    found.masks_queries_logits.sum().backward()
    assert model.model.decoder.proposal_kernels.weight.grad.isfinite().all()


@pytest.mark.usefixtures("fresh_dynamo")
def test_exported_program_takes_any_batch_and_size_of_whole_strides() -> None:
    model = tiny_model(num_stages=1)
    sides = {2: 32 * torch.export.Dim("rows", max=64), 3: 32 * torch.export.Dim("columns", max=64)}
    shapes = {"pixel_values": {0: torch.export.Dim("batch", max=64), **sides}}
    with torch.no_grad():
        program = torch.export.export(model, (torch.randn(2, 3, 64, 96),), dynamic_shapes=shapes, strict=False)
        for batch_size, *size in ((2, 64, 96), (1, 96, 160)):
            pixel_values = torch.randn(batch_size, 3, *size)
            assert_same_result(program.module()(pixel_values), model(pixel_values))


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated")
def test_gradient_checkpointing_gives_the_same_loss_and_gradients() -> None:
    torch.manual_seed(0)
    pixel_values, labels = torch.randn(2, 3, 64, 96), random_labels([3, 2], (64, 96))
    losses, gradients, calls = [], [], []
    for checkpointing in (False, True):
        model = tiny_model().double().train()
        pre_attention = model.model.decoder.stages[0].pre_attention
        pre_attention.register_forward_hook(lambda *args, checkpointing=checkpointing: calls.append(checkpointing))
        if checkpointing:
            model.gradient_checkpointing_enable()
        set_seed(1)
        loss = model(pixel_values, **labels).loss
        loss.backward()
        losses.append(loss)
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert calls == [False, True, True]
    assert torch.equal(*losses)
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_training_lowers_the_loss() -> None:
    torch.manual_seed(0)
    model = tiny_model(temperature=1, num_stages=1).train()
    pixel_values, labels = torch.randn(1, 3, 64, 64), random_labels([2], (64, 64))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    losses = []
    for _ in range(20):
        losses.append(model(pixel_values, **labels).loss)
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert sum(losses[-3:]) < 0.85 * sum(losses[:3])


# Labels and losses of the model


def test_loss_is_the_sum_of_its_parts() -> None:
    torch.manual_seed(0)
    model = tiny_model()
    outputs = model(torch.randn(2, 3, 64, 96), **random_labels([3, 2], (64, 96)))
    assert set(outputs.loss_dict) == {
        *("stage0_loss_mask", "stage0_loss_dice", "stage1_loss_cross_entropy", "stage1_loss_mask", "stage1_loss_dice"),
        *("stage2_loss_cross_entropy", "stage2_loss_mask", "stage2_loss_dice"),
    }
    torch.testing.assert_close(outputs.loss, sum(outputs.loss_dict.values()))


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.int16])
def test_class_labels_of_any_integer_dtype(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model, pixel_values, labels = tiny_model(), torch.randn(2, 3, 64, 96), random_labels([3, 2], (64, 96))
    set_seed(1)
    expected = model(pixel_values, **labels).loss
    labels["class_labels"] = [classes.to(dtype) for classes in labels["class_labels"]]
    set_seed(1)
    assert torch.equal(model(pixel_values, **labels).loss, expected)


def test_image_without_segments_in_its_usual_spellings(model: YosoForUniversalSegmentation) -> None:
    pixel_values = torch.randn(1, 3, 64, 96)
    for masks in (torch.zeros(0, 64, 96), torch.zeros(0, 0, 0), torch.full((64, 96), -1)):
        for classes in (torch.zeros(0, dtype=torch.long), torch.tensor([])):
            assert model(pixel_values, mask_labels=[masks], class_labels=[classes]).loss.isfinite()


# Bad input


@pytest.mark.parametrize("shape", [(1, 4, 64, 64), (1, 1, 64, 64), (3, 64, 64), (1, 3, 0, 64), (0, 3, 64, 64)])
def test_images_of_a_wrong_shape_are_refused(model: YosoForUniversalSegmentation, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"`pixel_values` must have shape \(batch, 3, height, width\)"):
        model(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(2, 64, 32), (1, 64, 64), (2, 1, 64, 64), (64, 64)])
def test_pixel_mask_of_another_shape_is_refused(model: YosoForUniversalSegmentation, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"`pixel_mask`.*`pixel_values` \(2, 3, 64, 64\)"):
        model(torch.zeros(2, 3, 64, 64), pixel_mask=torch.ones(shape))


MASKS = torch.zeros(2, 64, 64, dtype=torch.bool)
CLASSES = torch.tensor([1, 2])


@pytest.mark.parametrize(
    ("masks", "classes", "message"),
    [
        (None, [CLASSES], "both `mask_labels` and `class_labels`"),
        ([MASKS], None, "both `mask_labels` and `class_labels`"),
        ([MASKS, MASKS], [CLASSES, CLASSES], "1 images need as many"),
        ([MASKS], [], "1 images need as many"),
        ([MASKS[:1]], [CLASSES], "has 1 `mask_labels` but 2 `class_labels`"),
        ([MASKS], [torch.tensor([1, 6])], r"holds \[1, 6\]; the config has label ids 0\.\.5"),
        ([MASKS], [torch.tensor([-1, 2])], r"holds \[-1, 2\]"),
        ([MASKS], [CLASSES.float()], r"`class_labels\[0\]` must be the integer label ids"),
        ([MASKS[:1]], [CLASSES[None]], r"`class_labels\[0\]` must be the integer label ids \(n,\)"),
        ([MASKS[0].float()], [CLASSES], r"`mask_labels\[0\]` must be masks \(n, height, width\) or an integer id map"),
        ([MASKS[0]], [CLASSES[:1]], r"an integer id map \(height, width\), got shape \(64, 64\) and torch\.bool"),
        ([MASKS[None]], [CLASSES], r"`mask_labels\[0\]` must be masks"),
        ([torch.zeros(2, 64, 100)], [CLASSES], r"\(64, 100\) are larger than the image \(64, 64\)"),
    ],
)
def test_labels_that_do_not_fit_are_refused(model: YosoForUniversalSegmentation, masks, classes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model(torch.zeros(1, 3, 64, 64), mask_labels=masks, class_labels=classes)


def test_frozen_default_backbone_trains_the_rest() -> None:
    backbone_config = TimmBackboneConfig(backbone="resnet18", freeze_batch_norm_2d=True)
    model = tiny_model(backbone_config=backbone_config).train()
    model(torch.randn(2, 3, 64, 64), **random_labels([2, 1], (64, 64))).loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_pixel_mask_with_padding_left_or_top_is_refused() -> None:
    pixel_mask = torch.zeros(1, 64, 96)
    pixel_mask[:, 32:, 32:] = 1
    with pytest.raises(ValueError, match="top left"):
        tiny_model()(torch.zeros(1, 3, 64, 96), pixel_mask=pixel_mask)


def test_labels_that_are_no_tensors_are_refused() -> None:
    with pytest.raises(ValueError, match="tensors"):
        tiny_model()(torch.zeros(1, 3, 64, 64), mask_labels=[[[0]]], class_labels=[[1]])
