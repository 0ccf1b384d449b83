"""Overfitting the two COCO photos: reader, processor, model, losses, post-processing and PQ in one run (slow)."""

from pathlib import Path

import pytest
import torch
from transformers import TimmBackboneConfig, set_seed

from transformers_yoso import YosoConfig, YosoForUniversalSegmentation, YosoImageProcessor
from transformers_yoso.data import CategoryTable, CocoPanopticDataset, PanopticSample
from transformers_yoso.data.sample import drop_crowd_segments
from transformers_yoso.metrics import PanopticQuality, reference_of
from transformers_yoso.training.backbone_weights import load_backbone_weights
from transformers_yoso.training.parameter_groups import build_parameter_groups
from transformers_yoso.training.schedules import build_schedule

MAX_STEPS = 800
STEPS_BETWEEN_EVALUATIONS = 50
STEPS_WITH_BATCH_STATISTICS = 20
WANTED_PQ = 0.9


def build_model(categories: CategoryTable, backbone_weights: Path) -> YosoForUniversalSegmentation:
    config = YosoConfig(
        backbone_config=TimmBackboneConfig(
            backbone="tf_efficientnet_lite0", out_indices=[1, 2, 3, 4], freeze_batch_norm_2d=True
        ),
        pyramid_channels=[48, 64, 96, 160],
        aggregation_dim=64,
        hidden_dim=128,
        feedforward_dim=256,
        num_queries=60,
        temperature=0.1,
        train_num_points=2048,
        id2label=categories.id2label,
        label2id={name: label for label, name in categories.id2label.items()},
        stuff_label_ids=categories.stuff_label_ids,
    )
    model = YosoForUniversalSegmentation(config)
    load_backbone_weights(model.model.backbone, backbone_weights)
    model.model.backbone.requires_grad_(False)
    return model.to(memory_format=torch.channels_last)


def make_batch(sample: PanopticSample, processor: YosoImageProcessor) -> dict[str, object]:
    target = drop_crowd_segments(sample)
    return dict(
        processor(
            images=target.image,
            segmentation_maps=target.segment_map,
            instance_id_to_semantic_id=dict(enumerate(target.class_labels.tolist())),
            return_tensors="pt",
        )
    )


@torch.no_grad()
def panoptic_quality(
    model: YosoForUniversalSegmentation, processor: YosoImageProcessor, samples: list[PanopticSample]
) -> float:
    quality = PanopticQuality(model.config.num_labels, model.config.stuff_label_ids)
    outputs = model(**processor(images=[sample.image for sample in samples], return_tensors="pt"))
    sizes = [tuple(sample.segment_map.shape) for sample in samples]
    results = processor.post_process_panoptic_segmentation(outputs, target_sizes=sizes)
    for sample, result in zip(samples, results, strict=True):
        quality.add(prediction=result, reference=reference_of(sample))
    return quality.compute()["all"]["pq"]


@pytest.mark.slow
def test_two_coco_photos_are_learnt_by_heart(shared_dir: Path) -> None:
    set_seed(0)
    dataset = CocoPanopticDataset.from_folder(shared_dir / "data/coco_panoptic_sample", "val2017")
    samples = list(dataset)
    assert len(samples) == 2
    model = build_model(dataset.categories, shared_dir / "weights/tf_efficientnet_lite0_imagenet_timm.safetensors")
    processor = YosoImageProcessor(
        size={"shortest_edge": 427, "longest_edge": 1333},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
        threshold=0.5,
        label_ids_to_fuse=dataset.categories.stuff_label_ids,
        ignore_index=-1,
        return_compact_masks=True,
    )
    batches = [make_batch(sample, processor) for sample in samples]
    parameters = build_parameter_groups(model, learning_rate=5e-4, backbone_multiplier=0.1, weight_decay=0.0)
    optimizer = torch.optim.AdamW(parameters, lr=5e-4)
    schedule = build_schedule(optimizer, "poly", MAX_STEPS, 20)

    model.train()
    quality = 0.0
    for step in range(1, MAX_STEPS + 1):
        if step > STEPS_WITH_BATCH_STATISTICS:
            model.eval()
        model(**batches[step % 2]).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if step % STEPS_BETWEEN_EVALUATIONS == 0:
            quality = panoptic_quality(model, processor, samples)
            print(f"step {step}: PQ {quality:.3f}", flush=True)
            if quality >= WANTED_PQ:
                break
    assert quality >= WANTED_PQ
