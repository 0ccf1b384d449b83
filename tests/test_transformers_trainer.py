"""The model under Transformers' own `Trainer`, as it is: learning, evaluation, accumulation, checkpoints, resume."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoImageProcessor,
    AutoModelForUniversalSegmentation,
    EvalPrediction,
    Trainer,
    TrainingArguments,
)
from transformers.utils import ModelOutput

from tiny_yoso import tiny_model
from transformers_yoso import YosoForUniversalSegmentation, YosoImageProcessor
from transformers_yoso.data import CocoPanopticDataset, PanopticCollator, PanopticSample, TrainingAugmentation
from transformers_yoso.metrics import PanopticQuality

STUFF = [6, 7, 8, 9]


@pytest.fixture(scope="module")
def photos(shared_dir: Path) -> list[PanopticSample]:
    """Four facade photos, halved."""
    torch.manual_seed(0)
    dataset = CocoPanopticDataset.from_folder(shared_dir / "data" / "facade", "train")
    augmentation = TrainingAugmentation(128, scale_range=(1.0, 1.0))
    return [augmentation(dataset[index]) for index in range(4)]


@pytest.fixture
def image_processor() -> YosoImageProcessor:
    return YosoImageProcessor(threshold=0.0, overlap_mask_area_threshold=0.0, label_ids_to_fuse=STUFF)


def facade_model() -> YosoForUniversalSegmentation:
    return tiny_model(num_labels=10, stuff_label_ids=STUFF, num_queries=40)


def make_trainer(
    output_dir: Path, photos: list[PanopticSample], image_processor: YosoImageProcessor, **changes: Any
) -> Trainer:
    settings = {
        "max_steps": 6,
        "per_device_train_batch_size": 2,
        "per_device_eval_batch_size": 3,
        "learning_rate": 1e-3,
        "max_grad_norm": 10.0,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
    }
    trainer = {
        "model": facade_model(),
        "train_dataset": photos,
        "eval_dataset": photos,
        "data_collator": PanopticCollator(image_processor.image_mean, image_processor.image_std),
        "processing_class": image_processor,
    }
    trainer |= {name: changes.pop(name) for name in tuple(changes) if name in (*trainer, "compute_metrics")}
    return Trainer(args=TrainingArguments(str(output_dir), **settings | changes), **trainer)


def losses_of(trainer: Trainer) -> list[float]:
    return [line["loss"] for line in trainer.state.log_history if "loss" in line]


def test_trainer_lowers_the_loss_on_photos(photos, image_processor, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, photos, image_processor, max_steps=12)
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    evaluated = trainer.evaluate()["eval_loss"]
    trainer.train()
    losses = losses_of(trainer)
    assert len(losses) == 12
    assert sum(losses[-2:]) < 0.8 * sum(losses[:2])
    assert trainer.evaluate()["eval_loss"] < 0.8 * evaluated
    parts = ("backbone", "feature_pyramid_aggregator", "decoder.stages", "proposal_kernels", "class_branches")
    after = trainer.model.state_dict()
    for part in parts:
        assert any(part in name and not torch.equal(before[name], after[name]) for name in before), part


def test_what_trainer_counts_in_labels_does_not_scale_the_loss(photos, image_processor, tmp_path: Path) -> None:
    """`Trainer` hands the number of elements of `labels` to models that take it, and then does not average."""
    collator = PanopticCollator(image_processor.image_mean, image_processor.image_std)

    def with_labels(samples: list[PanopticSample]) -> dict[str, Any]:
        batch = collator(samples)
        return {**batch, "labels": torch.cat(batch["class_labels"])}

    settings = {"max_steps": 2, "gradient_accumulation_steps": 2, "per_device_train_batch_size": 1}
    plain = make_trainer(tmp_path / "plain", photos, image_processor, **settings)
    plain.train()
    counted = make_trainer(tmp_path / "counted", photos, image_processor, data_collator=with_labels, **settings)
    counted.train()
    assert losses_of(counted) == losses_of(plain)

    whole = make_trainer(tmp_path / "whole", photos, image_processor, max_steps=2, per_device_train_batch_size=2)
    whole.train()
    assert losses_of(plain)[0] == pytest.approx(losses_of(whole)[0], rel=0.2)


def test_evaluation_loop_gives_panoptic_quality(photos, image_processor, tmp_path: Path) -> None:
    """Batch by batch, as lists of labels cannot be joined: `batch_eval_metrics=True`."""
    quality = PanopticQuality(10, STUFF)

    def compute_metrics(batch: EvalPrediction, compute_result: bool) -> dict[str, float]:
        class_logits, mask_logits, image_sizes = batch.predictions
        mask_labels, class_labels = batch.label_ids
        outputs = ModelOutput(
            class_queries_logits=class_logits, masks_queries_logits=mask_logits, image_sizes=image_sizes
        )
        sizes = [tuple(masks.shape) for masks in mask_labels]
        results = image_processor.post_process_panoptic_segmentation(outputs, target_sizes=sizes)
        for result, masks, labels in zip(results, mask_labels, class_labels, strict=True):
            segmentation = result["segmentation"].numpy()
            quality.update(
                segmentation, result["segments_info"], masks.numpy(), labels.tolist(), [False] * len(labels)
            )
        return {"pq": quality.compute()["all"]["pq"]} if compute_result else {}

    trainer = make_trainer(tmp_path, photos, image_processor, batch_eval_metrics=True, compute_metrics=compute_metrics)
    scores = trainer.evaluate()

    expected = PanopticQuality(10, STUFF)
    collator = PanopticCollator(image_processor.image_mean, image_processor.image_std)
    for sample in photos:
        batch = collator([sample])
        with torch.no_grad():
            outputs = trainer.model(pixel_values=batch["pixel_values"], pixel_mask=batch["pixel_mask"])
        (result,) = image_processor.post_process_panoptic_segmentation(
            outputs, target_sizes=[tuple(sample.segment_map.shape)]
        )
        expected.update(
            result["segmentation"].numpy(),
            result["segments_info"],
            sample.segment_map.numpy(),
            sample.class_labels.tolist(),
            sample.is_crowd.tolist(),
        )
    assert scores["eval_pq"] == pytest.approx(expected.compute()["all"]["pq"], abs=1e-6)
    found = quality.true_positives + quality.false_positives
    assert found.sum() > 0
    assert found.tolist() == (expected.true_positives + expected.false_positives).tolist()


def test_prediction_keeps_what_post_processing_reads(photos, image_processor, tmp_path: Path) -> None:
    class_logits, mask_logits, image_sizes = (
        make_trainer(tmp_path, photos, image_processor).predict(photos).predictions
    )
    assert class_logits.shape == (4, 40, 11)
    assert mask_logits.shape == (4, 40, 32, 32)
    assert image_sizes.tolist() == [[128, 128]] * 4


def test_resumed_run_ends_with_the_same_bits(photos, image_processor, tmp_path: Path) -> None:
    settings = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "gradient_accumulation_steps": 2}
    settings["per_device_train_batch_size"] = 1
    whole = make_trainer(tmp_path, photos, image_processor, **settings)
    whole.train()
    expected = {name: tensor.clone() for name, tensor in whole.model.state_dict().items()}

    resumed = make_trainer(tmp_path, photos, image_processor, **settings)
    torch.nn.init.zeros_(resumed.model.model.decoder.proposal_kernels.weight)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert losses_of(resumed)[2:] == losses_of(whole)[2:]
    for name, tensor in resumed.model.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=0, msg=name)

    opened = AutoModelForUniversalSegmentation.from_pretrained(tmp_path / "checkpoint-4")
    torch.testing.assert_close(opened.state_dict(), expected, rtol=0, atol=0)
    assert AutoImageProcessor.from_pretrained(tmp_path / "checkpoint-4").label_ids_to_fuse == STUFF
