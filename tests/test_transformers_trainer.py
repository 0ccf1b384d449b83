"""The model under Transformers' own `Trainer`, as it is: learning, evaluation, accumulation, checkpoints, resume."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence
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


def test_labels_as_tensors_give_the_loss_of_lists(photos) -> None:
    model = facade_model()
    batch = PanopticCollator([0.5] * 3, [0.5] * 3)(photos[:2])
    torch.manual_seed(1)
    expected = model(**batch).loss
    stacked = {
        "mask_labels": torch.stack(batch["mask_labels"]),
        "class_labels": pad_sequence(batch["class_labels"], batch_first=True, padding_value=-100),
    }
    assert (stacked["class_labels"] == -100).any()
    torch.manual_seed(1)
    torch.testing.assert_close(model(**batch | stacked).loss, expected, rtol=0, atol=0)
    with pytest.raises(ValueError, match=r"class_labels\[0\]"):
        model(**batch | stacked | {"class_labels": torch.tensor([1, 2])})


@pytest.mark.parametrize("batch_eval_metrics", [True, False])
def test_evaluation_loop_hands_on_all_that_a_metric_reads(
    photos, image_processor, tmp_path: Path, batch_eval_metrics: bool
) -> None:
    """`Trainer` cuts and joins labels along their first dimension, so they come as one tensor a batch."""
    collator = PanopticCollator(image_processor.image_mean, image_processor.image_std)

    def stack_labels(samples: list[PanopticSample]) -> dict[str, Any]:
        batch = collator(samples)
        batch["mask_labels"] = torch.stack(batch["mask_labels"])
        batch["class_labels"] = pad_sequence(batch["class_labels"], batch_first=True, padding_value=-100)
        return batch

    found: list[dict[str, Any]] = []
    targets: list[tuple[torch.Tensor, torch.Tensor]] = []

    def compute_metrics(evaluated: EvalPrediction, compute_result: bool = True) -> dict[str, float]:
        class_logits, mask_logits, image_sizes = map(torch.as_tensor, evaluated.predictions)
        mask_labels, class_labels = map(torch.as_tensor, evaluated.label_ids)
        outputs = ModelOutput(
            class_queries_logits=class_logits, masks_queries_logits=mask_logits, image_sizes=image_sizes
        )
        sizes = [tuple(mask_labels.shape[-2:])] * len(mask_labels)
        found.extend(image_processor.post_process_panoptic_segmentation(outputs, target_sizes=sizes))
        targets.extend(zip(mask_labels, class_labels, strict=True))
        return {"segments": sum(len(result["segments_info"]) for result in found)} if compute_result else {}

    trainer = make_trainer(
        tmp_path,
        photos,
        image_processor,
        data_collator=stack_labels,
        compute_metrics=compute_metrics,
        batch_eval_metrics=batch_eval_metrics,
    )
    scores = trainer.evaluate()
    assert scores["eval_segments"] > len(photos)
    listed = make_trainer(tmp_path, photos, image_processor).evaluate()
    assert scores["eval_loss"] == pytest.approx(listed["eval_loss"], rel=0.05)  # of random points

    assert len(found) == len(targets) == len(photos)
    for sample, result, (mask_labels, class_labels) in zip(photos, found, targets, strict=True):
        assert torch.equal(mask_labels, sample.segment_map)
        assert torch.equal(class_labels[class_labels >= 0], sample.class_labels)
        batch = collator([sample])
        with torch.no_grad():
            outputs = trainer.model(pixel_values=batch["pixel_values"], pixel_mask=batch["pixel_mask"])
        (expected,) = image_processor.post_process_panoptic_segmentation(outputs, target_sizes=[(128, 128)])
        assert (result["segmentation"] == expected["segmentation"]).float().mean() > 0.99


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
