"""Neck, decoder, losses and post-processing against outputs of the authors' code (`../shared/reference/heads_*`)."""

import json
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from transformers_yoso.conversion.official_keys import convert_official_state_dict
from transformers_yoso.models import modeling_yoso
from transformers_yoso.models.configuration_yoso import YosoConfig
from transformers_yoso.models.image_processing_yoso import YosoImageProcessor
from transformers_yoso.models.modeling_yoso import YosoForUniversalSegmentation


class StoredFeatures(nn.Module):
    """Stands in for the backbone: gives the stored C2..C5 whatever the image."""

    def __init__(self, channels: list[int]) -> None:
        super().__init__()
        self.channels = channels
        self.feature_maps: list[Tensor] = []

    def forward(self, pixel_values: Tensor, **kwargs: bool) -> SimpleNamespace:
        return SimpleNamespace(feature_maps=self.feature_maps)


@dataclass
class Heads:
    """Reference case and our model with its weights."""

    meta: dict
    tensors: dict[str, Tensor]
    model: YosoForUniversalSegmentation
    stuff_label_ids: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.stuff_label_ids = [
            label for label in range(self.meta["num_classes"]) if label not in self.meta["thing_classes"]
        ]

    @property
    def stages(self) -> range:
        return range(1, self.meta["num_stages"] + 1)

    def forward(self, prefix: str = "in", **kwargs):
        """Run the whole model on the stored features; the image only gives the padded size."""
        features = [self.tensors[f"{prefix}.c{level}"] for level in (2, 3, 4, 5)]
        self.model.model.backbone.feature_maps = features
        batch_size, _, height, width = features[0].shape
        with torch.no_grad():
            return self.model(torch.zeros(batch_size, 3, 4 * height, 4 * width), **kwargs)

    def inference(self):
        pixel_mask = torch.zeros(1, *self.meta["padded_size"], dtype=torch.long)
        height, width = self.meta["resized_size"]
        pixel_mask[:, :height, :width] = 1
        return self.forward(pixel_mask=pixel_mask, output_hidden_states=True, output_auxiliary_logits=True)

    def processor(self) -> YosoImageProcessor:
        return YosoImageProcessor(
            threshold=self.meta["object_mask_threshold"],
            overlap_mask_area_threshold=self.meta["overlap_threshold"],
            label_ids_to_fuse=self.stuff_label_ids,
        )


@pytest.fixture(scope="module", params=["heads_a", "heads_b"])
def heads(request, shared_dir) -> Heads:
    folder = shared_dir / "reference" / request.param
    meta = json.loads((folder / "meta.json").read_text())
    tensors = load_file(folder / "tensors.safetensors")
    config = YosoConfig(
        num_labels=meta["num_classes"],
        hidden_dim=meta["hidden_dim"],
        num_queries=meta["num_proposals"],
        num_stages=meta["num_stages"],
        dynamic_kernel_size=meta["conv_kernel_size_1d"],
        num_class_layers=meta["num_cls_fcs"],
        num_mask_layers=meta["num_mask_fcs"],
        temperature=meta["temperature"],
        train_num_points=meta["train_num_points"],
    )
    channels = [tensors[f"in.c{level}"].shape[1] for level in (2, 3, 4, 5)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(modeling_yoso, "build_backbone", lambda config: StoredFeatures(channels))
        model = YosoForUniversalSegmentation(config).eval()
    weights = {name.removeprefix("weights."): value for name, value in tensors.items() if name.startswith("weights.")}
    model.load_state_dict(convert_official_state_dict(weights, model))
    return Heads(meta, tensors, model)


def assert_close(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    assert actual.shape == expected.shape
    error = (actual - expected).abs().max() / expected.abs().max()
    assert error <= tolerance, f"max|a-b|/max|b| = {error:.2e}"


def test_feature_map_and_proposal_masks_equal_the_official_ones(heads):
    features = [heads.tensors[f"in.c{level}"] for level in (2, 3, 4, 5)]
    with torch.no_grad():
        feature_map = heads.model.model.feature_pyramid_aggregator(features)
        mask_logits = heads.model.model.decoder.proposal_kernels(feature_map)
    assert_close(feature_map, heads.tensors["out.features"], 1e-4)
    assert_close(mask_logits[0], heads.tensors["out.stage0.mask_logits"], 1e-4)


def test_each_stage_equals_the_official_one_from_its_stored_inputs(heads):
    decoder, stored = heads.model.model.decoder, heads.tensors
    kernels = stored["weights.yoso_head.kernels.weight"].flatten(1)
    for stage in heads.stages:
        with torch.no_grad():
            kernels, mask_logits, _ = decoder.stages[stage - 1](
                kernels[None], stored[f"out.stage{stage - 1}.mask_logits"][None], stored["out.features"]
            )
        assert_close(kernels[0], stored[f"out.stage{stage}.kernels"], 1e-4)
        assert_close(mask_logits[0], stored[f"out.stage{stage}.mask_logits"], 1e-4)
        kernels = stored[f"out.stage{stage}.kernels"]
    with torch.no_grad():
        class_logits = heads.model.class_branches[-1](kernels[None])
    assert_close(class_logits[0], stored["out.class_logits"], 1e-4)


def test_whole_chain_equals_the_official_one(heads):
    outputs = heads.inference()
    mask_logits = [stage["masks_queries_logits"] for stage in outputs.auxiliary_logits]
    mask_logits.append(outputs.masks_queries_logits)
    for stage in heads.stages:
        assert_close(outputs.hidden_states[stage][0], heads.tensors[f"out.stage{stage}.kernels"], 1e-2)
        assert_close(mask_logits[stage][0], heads.tensors[f"out.stage{stage}.mask_logits"], 1e-2)
    assert_close(outputs.class_queries_logits[0], heads.tensors["out.class_logits"], 1e-2)


def test_panoptic_map_equals_the_official_one(heads):
    target_size = tuple(heads.meta["original_size"])
    [result] = heads.processor().post_process_panoptic_segmentation(heads.inference(), target_sizes=[target_size])
    found = [(segment["id"], segment["label_id"]) for segment in result["segments_info"]]
    expected = heads.meta["segments_info"]
    assert found == [(segment["id"], segment["category_id"]) for segment in expected]
    assert result["segmentation"].shape == target_size
    assert (result["segmentation"] == heads.tensors["out.panoptic"]).float().mean() >= 0.999


def test_semantic_map_equals_the_official_one(heads):
    target_size = tuple(heads.meta["original_size"])
    [labels] = heads.processor().post_process_semantic_segmentation(heads.inference(), target_sizes=[target_size])
    assert labels.shape == target_size
    assert (labels == heads.tensors["out.semantic"]).float().mean() >= 0.999


def test_instances_equal_the_official_ones(heads):
    [result] = heads.processor().post_process_instance_segmentation(
        heads.inference(), threshold=0.0, target_sizes=[tuple(heads.meta["original_size"])], return_binary_maps=True
    )
    segments = result["segments_info"]
    scores = torch.tensor([segment["score"] for segment in segments])
    labels = torch.tensor([segment["label_id"] for segment in segments])
    areas = torch.as_tensor(result["segmentation"]).flatten(1).sum(1)

    # The authors' top-k is unsorted and keeps empty masks.
    stored = {name: heads.tensors[f"out.instance.{name}"] for name in ("scores", "labels", "mask_areas")}
    order = stored["scores"].argsort(descending=True)
    order = order[stored["mask_areas"][order] > 0]
    ours = scores.argsort(descending=True)
    assert labels[ours].tolist() == stored["labels"][order].tolist()
    assert_close(scores[ours], stored["scores"][order], 1e-2)
    assert_close(areas[ours].double(), stored["mask_areas"][order].double(), 1e-2)


def test_losses_at_seed_0_equal_the_official_ones(heads):
    labels = {
        "mask_labels": [heads.tensors[f"loss.target{image}.masks"].bool() for image in (0, 1)],
        "class_labels": [heads.tensors[f"loss.target{image}.labels"] for image in (0, 1)],
    }
    torch.manual_seed(0)
    outputs = heads.forward("loss.in", **labels)
    found = {
        name.replace("stage", "s").replace("cross_entropy", "ce"): loss.item()
        for name, loss in outputs.loss_dict.items()
    }
    expected = heads.meta["losses_seed0"]
    assert found == pytest.approx(expected, rel=1e-3)
    assert outputs.loss.item() == pytest.approx(sum(expected.values()), rel=1e-3)
