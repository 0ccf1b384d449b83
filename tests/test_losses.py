"""Set-prediction loss: point sampling, matching, and all that a batch of labels can hold."""

import itertools
from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tiny_yoso import random_labels, tiny_model
from transformers_yoso.models.hungarian_matcher import HungarianMatcher
from transformers_yoso.models.point_sampling import sample_target_masks, sample_uncertain_points
from transformers_yoso.models.set_criterion import SetCriterion

NUM_LABELS = 6
CANVAS = (64, 96)


def criterion(num_points: int = 64, **changes: float) -> SetCriterion:
    weights = {"class_weight": 2.0, "mask_weight": 5.0, "dice_weight": 5.0, "no_object_weight": 0.1} | changes
    return SetCriterion(
        num_labels=NUM_LABELS, num_points=num_points, oversample_ratio=3.0, importance_sample_ratio=0.75, **weights
    )


def random_predictions(batch_size: int = 2, num_queries: int = 10, stages: int = 2) -> dict[str, tuple]:
    """Mask and class logits of stage 0, which has no classes, and further stages, with gradients."""
    masks = [torch.randn(batch_size, num_queries, 16, 24).mul(3).requires_grad_() for _ in range(stages)]
    classes = [torch.randn(batch_size, num_queries, NUM_LABELS + 1).requires_grad_() for _ in range(stages - 1)]
    return {"mask_logits": tuple(masks), "class_logits": (None, *classes)}


def binary_masks(id_map: Tensor, num_segments: int) -> Tensor:
    return id_map == torch.arange(num_segments).view(-1, 1, 1)


def compute(predictions: dict, labels: dict, loss: SetCriterion | None = None, **kwargs: object) -> dict[str, Tensor]:
    """Losses under seed 1."""
    torch.manual_seed(1)
    return (loss or criterion())(**predictions, **labels, **({"canvas_size": CANVAS} | kwargs))


# Batches of every kind


@pytest.mark.parametrize("num_segments", [[3, 2], [0, 3], [0, 0], [1, 25], [25, 25]])
def test_loss_and_gradients_are_finite_whatever_the_number_of_segments(num_segments: list[int]) -> None:
    torch.manual_seed(0)
    model = tiny_model().train()
    outputs = model(torch.randn(2, 3, *CANVAS), **random_labels(num_segments, CANVAS))
    outputs.loss.backward()
    assert outputs.loss.isfinite()
    assert outputs.loss > 0
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("no_object_weight", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_batch_without_segments_has_only_a_class_loss(no_object_weight: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    predictions = random_predictions()
    with torch.no_grad():
        # Their sum is beyond float16.
        predictions["mask_logits"] = tuple((masks + 60).to(dtype) for masks in predictions["mask_logits"])
    losses = compute(predictions, random_labels([0, 0], CANVAS), criterion(no_object_weight=no_object_weight))
    for name, loss in losses.items():
        assert loss.isfinite(), name
        assert (loss > 0) == ("cross_entropy" in name and no_object_weight > 0), name


def test_padded_batch_with_labels_of_the_unpadded_size() -> None:
    torch.manual_seed(0)
    model = tiny_model().train()
    pixel_mask = torch.zeros(2, *CANVAS, dtype=torch.long)
    pixel_mask[0, :40, :96], pixel_mask[1, :64, :33] = 1, 1
    labels = random_labels([3, 2], CANVAS)
    labels["mask_labels"] = [labels["mask_labels"][0][:40, :96], labels["mask_labels"][1][:64, :33]]
    pixel_values = torch.randn(2, 3, *CANVAS) * pixel_mask[:, None]
    loss = model(pixel_values, pixel_mask=pixel_mask, **labels).loss
    loss.backward()
    assert loss.isfinite()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_more_segments_than_queries_matches_every_query() -> None:
    torch.manual_seed(0)
    predictions, labels = random_predictions(num_queries=4), random_labels([9, 2], CANVAS)
    matches = criterion().matcher(predictions["mask_logits"][0], None, canvas_size=CANVAS, **labels)
    assert matches[0][0].tolist() == [0, 1, 2, 3]
    assert len(set(matches[0][1].tolist())) == 4
    assert sorted(matches[1][1].tolist()) == [0, 1]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_matcher_survives_predictions_that_are_no_numbers(value: float) -> None:
    torch.manual_seed(0)
    predictions, labels = random_predictions(), random_labels([3, 2], CANVAS)
    masks, classes = (predictions[name][1].detach() for name in ("mask_logits", "class_logits"))
    masks[0, :5], classes[0, 3:7] = value, value
    matches = criterion().matcher(masks, classes, canvas_size=CANVAS, **labels)
    assert [len(queries) for queries, _ in matches] == [3, 2]
    all_bad = criterion().matcher(torch.full_like(masks, value), classes, canvas_size=CANVAS, **labels)
    assert [len(queries) for queries, _ in all_bad] == [3, 2]


# Forms of the masks


@pytest.mark.parametrize(
    "form",
    [
        lambda masks: masks,
        lambda masks: masks.to(torch.uint8),
        lambda masks: masks.to(torch.uint8) * 255,
        lambda masks: masks.long(),
        lambda masks: masks.float(),
        lambda masks: masks.half(),
    ],
)
def test_masks_of_any_dtype_give_the_loss_of_the_id_map(form) -> None:
    torch.manual_seed(0)
    predictions, labels = random_predictions(), random_labels([5, 3], CANVAS)
    expected = compute(predictions, labels)
    as_masks = [form(binary_masks(ids, count)) for ids, count in zip(labels["mask_labels"], [5, 3], strict=True)]
    found = compute(predictions, labels | {"mask_labels": as_masks})
    assert found == expected


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64])
def test_id_maps_of_any_dtype_and_any_void_value_are_equal(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    predictions, labels = random_predictions(), random_labels([5, 3], CANVAS)
    recoded = [torch.where(ids < 0, 255, ids).to(dtype) for ids in labels["mask_labels"]]
    assert compute(predictions, labels | {"mask_labels": recoded}) == compute(predictions, labels)


def test_outside_of_a_smaller_map_there_is_no_mask() -> None:
    torch.manual_seed(0)
    predictions, labels = random_predictions(), random_labels([5, 3], (50, 71))
    padded = [F.pad(ids, (0, 96 - 71, 0, 64 - 50), value=-1) for ids in labels["mask_labels"]]
    assert compute(predictions, labels) == compute(predictions, labels | {"mask_labels": padded})


def test_sampled_targets_equal_grid_sample_of_full_masks() -> None:
    torch.manual_seed(0)
    [ids] = random_labels([5], CANVAS)["mask_labels"]
    points = torch.rand(3, 200, 2)
    points[:, :4] = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.999999, 0.5]])
    segments = torch.tensor([4, 0, 2])
    full = binary_masks(ids, 5)[segments].float()
    expected = F.grid_sample(full[:, None], 2 * points[:, :, None] - 1, align_corners=False)[:, 0, :, 0]
    torch.testing.assert_close(sample_target_masks(ids, segments, points, CANVAS), expected, rtol=0, atol=1e-5)
    assert expected[:, :4].max() <= 0.5  # corners and edges of the image lie half outside


def test_most_points_lie_where_the_mask_is_uncertain() -> None:
    torch.manual_seed(0)
    logits = torch.linspace(-9, 9, 64).expand(1, 64, 64)
    points = sample_uncertain_points(logits, 400, oversample_ratio=3.0, importance_sample_ratio=0.75)
    assert points.shape == (1, 400, 2)
    assert 0 <= points.min() <= points.max() < 1
    distance = (points[0, :, 0] - 0.5).abs()
    # The 300 most uncertain of 1200 uniform points lie within 1/8 of the middle, the other 100 anywhere.
    assert (distance[:300] < 0.14).float().mean() > 0.95
    assert (distance[300:] > 0.14).float().mean() > 0.6


# Equality with a straight implementation


def straight_losses(predictions: dict, labels: dict, num_points: int) -> dict[str, Tensor]:
    """The official rules on full float masks, one mask at a time where that is simple."""
    full = [
        F.pad(binary_masks(ids, len(classes)).float(), (0, CANVAS[1] - ids.shape[1], 0, CANVAS[0] - ids.shape[0]))
        for ids, classes in zip(labels["mask_labels"], labels["class_labels"], strict=True)
    ]

    def sample(masks: Tensor, points: Tensor) -> Tensor:
        return F.grid_sample(masks[:, None], 2 * points[:, :, None] - 1, align_corners=False)[:, 0, :, 0]

    def dice(logits: Tensor, targets: Tensor) -> Tensor:
        overlap = (logits.sigmoid() * targets).sum()
        return 1 - (2 * overlap + 1) / (logits.sigmoid().sum() + targets.sum() + 1)

    losses = {}
    for stage, (masks, classes) in enumerate(zip(*predictions.values(), strict=True)):
        targets = torch.full(masks.shape[:2], NUM_LABELS)
        matched, matched_targets = [], []
        for image, class_labels in enumerate(labels["class_labels"]):
            points = torch.rand(1, num_points, 2)
            logits = sample(masks[image], points.expand(len(masks[image]), -1, -1)).detach()
            truth = sample(full[image], points.expand(len(class_labels), -1, -1))
            cost = torch.zeros(len(logits), len(truth))
            for query, segment in itertools.product(range(len(logits)), range(len(truth))):
                bce = F.binary_cross_entropy_with_logits(logits[query], truth[segment])
                cost[query, segment] = 5 * bce + 5 * dice(logits[query], truth[segment])
                if classes is not None:
                    cost[query, segment] -= 2 * classes[image, query].softmax(0)[class_labels[segment]].detach()
            queries, segments = linear_sum_assignment(cost)
            targets[image, queries] = class_labels[segments]
            matched.append(masks[image, queries])
            matched_targets.append(full[image][segments])
        if classes is not None:
            weight = torch.ones(NUM_LABELS + 1)
            weight[-1] = 0.1
            losses[f"stage{stage}_loss_cross_entropy"] = 2 * F.cross_entropy(
                classes.flatten(0, 1), targets.flatten(), weight
            )
        matched, matched_targets = torch.cat(matched), torch.cat(matched_targets)
        draw = torch.rand(len(matched), 3 * num_points, 2)
        uncertain = (-sample(matched, draw).abs()).topk(num_points * 3 // 4, dim=1).indices
        points = [chosen[index] for chosen, index in zip(draw, uncertain, strict=True)]
        points = torch.cat((torch.stack(points), torch.rand(len(matched), num_points - num_points * 3 // 4, 2)), dim=1)
        logits, truth = sample(matched, points), sample(matched_targets, points)
        pairs = list(zip(logits, truth, strict=True))
        losses[f"stage{stage}_loss_mask"] = (
            5 * sum(F.binary_cross_entropy_with_logits(*pair) for pair in pairs) / len(pairs)
        )
        losses[f"stage{stage}_loss_dice"] = 5 * sum(dice(*pair) for pair in pairs) / len(pairs)
    return losses


def test_losses_and_gradients_equal_a_straight_implementation() -> None:
    torch.manual_seed(0)
    predictions, labels = random_predictions(stages=3), random_labels([5, 3], (64, 90))
    found = compute(predictions, labels)
    torch.manual_seed(1)
    expected = straight_losses(predictions, labels, num_points=64)
    assert list(found) == list(expected)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-5)
    leaves = [tensor for tensors in predictions.values() for tensor in tensors if tensor is not None]
    gradients = torch.autograd.grad(sum(found.values()), leaves)
    for gradient, reference in zip(gradients, torch.autograd.grad(sum(expected.values()), leaves), strict=True):
        torch.testing.assert_close(gradient, reference, rtol=1e-3, atol=1e-5)


def test_matching_is_the_cheapest_of_all_assignments() -> None:
    """Large blocks of a constant logit, so that the cost does not depend on the points drawn."""
    torch.manual_seed(0)
    matcher = HungarianMatcher(class_weight=2.0, mask_weight=5.0, dice_weight=5.0, num_points=4000)
    values, classes = torch.randn(5), torch.randn(1, 5, NUM_LABELS + 1)
    masks = values.view(1, 5, 1, 1).expand(1, 5, 16, 24)
    areas = [0.25, 0.5, 0.125]
    targets = torch.zeros(3, *CANVAS, dtype=torch.bool)
    for target, area in zip(targets, areas, strict=True):
        target[:, : int(area * CANVAS[1])] = True
    labels = torch.tensor([2, 0, 5])
    [(queries, segments)] = matcher(masks, classes, [targets], [labels], CANVAS)

    def cost(query: int, segment: int) -> float:
        # Without weighing the border: in the interior of a map of a constant the sample is the constant.
        value, area = values[query], areas[segment]
        bce = area * F.softplus(-value) + (1 - area) * F.softplus(value)
        overlap = 2 * value.sigmoid() * area * 4000 + 1
        dice = 1 - overlap / ((value.sigmoid() + area) * 4000 + 1)
        return (5 * bce + 5 * dice - 2 * classes[0, query].softmax(0)[labels[segment]]).item()

    found = sum(cost(query, segment) for query, segment in zip(queries.tolist(), segments.tolist(), strict=True))
    best = min(
        sum(cost(query, segment) for segment, query in enumerate(order))
        for order in itertools.permutations(range(5), 3)
    )
    assert found == pytest.approx(best, abs=1e-6)
    assert sorted(segments.tolist()) == [0, 1, 2]


def test_class_weights_zero_drop_their_part() -> None:
    torch.manual_seed(0)
    predictions, labels = random_predictions(), random_labels([3, 2], CANVAS)
    losses = compute(predictions, labels, criterion(class_weight=0.0))
    assert losses["stage1_loss_cross_entropy"] == 0
    assert losses["stage1_loss_mask"] > 0


# Normalisation


def test_mask_losses_are_divided_by_the_number_of_masks() -> None:
    torch.manual_seed(0)
    predictions, labels = random_predictions(), random_labels([3, 2], CANVAS)
    own = compute(predictions, labels)
    for given in (20.0, torch.tensor(20)):
        scaled = compute(predictions, labels, num_items_in_batch=given)
        for name, loss in own.items():
            factor = 1 if "cross_entropy" in name else 5 / 20
            torch.testing.assert_close(scaled[name], loss * factor)


def test_number_of_masks_is_averaged_over_processes() -> None:
    labels = [torch.zeros(3), torch.zeros(0)]

    def add_other_process(count: Tensor) -> None:
        count += 6

    with (
        patch("torch.distributed.is_initialized", return_value=True),
        patch("torch.distributed.all_reduce", add_other_process),
        patch("torch.distributed.get_world_size", return_value=2),
    ):
        assert SetCriterion.count_masks(labels) == 4.5
    assert SetCriterion.count_masks(labels) == 3
    assert SetCriterion.count_masks([torch.zeros(0)]) == 1


# Memory


class LargestNewTensor(TorchDispatchMode):
    """Records the bytes of the largest tensor that an operation makes anew."""

    def __init__(self) -> None:
        super().__init__()
        self.nbytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        results = func(*args, **(kwargs or {}))
        known = {leaf.untyped_storage().data_ptr() for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        for leaf in tree_leaves(results):
            if isinstance(leaf, Tensor) and leaf.untyped_storage().data_ptr() not in known:
                self.nbytes = max(self.nbytes, leaf.untyped_storage().nbytes())
        return results


@pytest.mark.parametrize("as_masks", [False, True])
def test_loss_of_98_segments_makes_no_tensor_of_the_size_of_the_photo(as_masks: bool) -> None:
    torch.manual_seed(0)
    size = (1024, 1024)
    labels = {
        "mask_labels": [(torch.arange(1024 * 1024, dtype=torch.int32) % 128 - 1).clamp(max=97).view(size)] * 2,
        "class_labels": [torch.randint(NUM_LABELS, (98,))] * 2,
    }
    if as_masks:
        labels["mask_labels"] = [binary_masks(labels["mask_labels"][0], 98)] * 2
    predictions = random_predictions(num_queries=100)
    with LargestNewTensor() as largest:
        losses = compute(predictions, labels, criterion(num_points=256), canvas_size=size)
        sum(losses.values()).backward()
    assert 0 < largest.nbytes < 1024 * 1024 * 4


# Points of each image's own


def test_with_point_seeds_an_image_has_the_mask_losses_that_it_has_alone() -> None:
    torch.manual_seed(0)
    predictions, labels = random_predictions(), random_labels([3, 2], CANVAS)
    options = {"num_items_in_batch": 5.0}
    together = compute(predictions, labels, point_seeds=[11, 12], **options)
    alone = []
    for index, seed in ((1, 12), (0, 11)):
        image = slice(index, index + 1)
        one = {
            name: tuple(None if stage is None else stage[image] for stage in stages)
            for name, stages in predictions.items()
        }
        target = {name: values[image] for name, values in labels.items()}
        alone.append(compute(one, target, point_seeds=[seed], **options))
    for name in ("stage0_loss_mask", "stage0_loss_dice", "stage1_loss_mask", "stage1_loss_dice"):
        torch.testing.assert_close(together[name], alone[0][name] + alone[1][name])


def test_point_seeds_leave_the_global_generator_alone_and_must_be_one_an_image() -> None:
    torch.manual_seed(0)
    model, labels = tiny_model(), random_labels([3, 2], CANVAS)
    images = torch.randn(2, 3, *CANVAS)
    before = torch.random.get_rng_state()
    first = model(images, **labels, point_seeds=[1, 2]).loss
    assert torch.equal(before, torch.random.get_rng_state())
    assert first == model(images, **labels, point_seeds=[1, 2]).loss
    assert first != model(images, **labels, point_seeds=[3, 2]).loss
    with pytest.raises(ValueError, match="2 images need as many `point_seeds`, got 1"):
        model(images, **labels, point_seeds=[1])


def test_an_image_without_segments_has_no_mask_loss_even_where_logits_are_infinite() -> None:
    torch.manual_seed(0)
    predictions, labels = random_predictions(), random_labels([0, 0], CANVAS)
    with torch.no_grad():
        predictions["mask_logits"][0][0, 0, 0, 0] = torch.inf
    losses = compute(predictions, labels)
    assert losses["stage0_loss_mask"] == losses["stage0_loss_dice"] == 0


def test_segments_that_no_point_hits_are_matched_in_order():
    """Those of one class cost the same; which of them a query gets must not hang on rounding."""
    generator = torch.Generator().manual_seed(0)
    costs = torch.rand(7, 9, generator=generator, dtype=torch.float64)
    costs[:, 4:] = costs[:, 4:5] - 1
    rounding = 1e-16 * torch.rand(costs.shape, generator=generator, dtype=torch.float64)
    groups = torch.tensor([0, 1, 2, 3, -6, -6, -6, -6, -6])
    queries, segments = HungarianMatcher._assign(costs + rounding, groups)
    assert queries.tolist() == [*range(7)]
    assert segments[segments >= 4].tolist() == [4, 5, 6, 7, 8]
    least = linear_sum_assignment(costs.numpy())
    assert costs[queries, segments].sum() == pytest.approx(costs.numpy()[least].sum())


def test_tiny_segments_share_the_loss_whatever_the_rounding():
    """One image twice: with logits off by the last bit the segments of a pixel each go to the same queries."""
    torch.manual_seed(0)
    id_map = torch.zeros(64, 64, dtype=torch.long)
    id_map.view(-1)[torch.randperm(64 * 64)[:12]] = torch.arange(1, 13)
    labels = torch.tensor([0] + 6 * [1] + 6 * [2])
    logits, classes = torch.randn(1, 20, 16, 16, dtype=torch.float64), torch.randn(1, 20, 4, dtype=torch.float64)
    matcher = HungarianMatcher(class_weight=2.0, mask_weight=5.0, dice_weight=5.0, num_points=8)

    def match(logits: torch.Tensor) -> list[int]:
        seeds = [torch.Generator().manual_seed(3)]
        ((_, segments),) = matcher(logits, classes, [id_map], [labels], (64, 64), seeds)
        return segments.tolist()

    expected = match(logits)
    for seed in range(5):
        noise = torch.randn(logits.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        assert match(logits * (1 + 1e-15 * noise)) == expected
