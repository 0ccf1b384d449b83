"""LoRA through PEFT: only the adapter learns, its folder is small, and merged weights give the same results."""

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import TimmBackboneConfig, Trainer, TrainingArguments

from tiny_yoso import tiny_model
from transformers_yoso import YosoForUniversalSegmentation
from transformers_yoso.data import CocoPanopticDataset, PanopticCollator, PanopticSample, TrainingAugmentation

STUFF = [6, 7, 8, 9]
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
# Linear layers of the decoder, the pyramid's convolutions, and the proposal kernels, whose weight is read directly.
TARGETS = r".*(q_proj|v_proj|feedforward\.[02]|dynamic_kernels|mask_kernels|lateral_convs\.\d|proposal_kernels)"
# The classifier for new classes, and the neck's batch norms, whose statistics follow the photos.
MODULES_TO_SAVE = ["classifier", "deformable_norm", "upsampling_norm"]


@pytest.fixture(scope="module")
def photos(shared_dir: Path) -> list[PanopticSample]:
    torch.manual_seed(0)
    dataset = CocoPanopticDataset.from_folder(shared_dir / "data" / "facade", "train")
    augmentation = TrainingAugmentation(128, scale_range=(1.0, 1.0))
    return [augmentation(dataset[index]) for index in range(4)]


def base_model() -> YosoForUniversalSegmentation:
    backbone = TimmBackboneConfig(backbone="test_resnet", out_indices=[-4, -3, -2, -1], freeze_batch_norm_2d=True)
    return tiny_model(backbone_config=backbone, num_labels=10, stuff_label_ids=STUFF, num_queries=40)


def adapted_model(**changes: object) -> PeftModel:
    torch.manual_seed(0)
    settings = {"r": 4, "lora_alpha": 8, "target_modules": TARGETS, "modules_to_save": MODULES_TO_SAVE}
    return get_peft_model(base_model(), LoraConfig(**settings | changes))


def train(model: PeftModel, photos: list[PanopticSample], output_dir: Path, steps: int) -> list[float]:
    """Losses of a run under Transformers' `Trainer`."""
    arguments = TrainingArguments(
        str(output_dir),
        max_steps=steps,
        per_device_train_batch_size=2,
        learning_rate=5e-3,
        max_grad_norm=10.0,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = Trainer(model, arguments, train_dataset=photos, data_collator=PanopticCollator(MEAN, STD))
    trainer.train()
    return [line["loss"] for line in trainer.state.log_history if "loss" in line]


@torch.no_grad()
def logits_of(model: nn.Module, photos: list[PanopticSample]) -> tuple[torch.Tensor, torch.Tensor]:
    """In float64, as one pixel on the other side of a hard mask's edge would move all that follows."""
    pixel_values = PanopticCollator(MEAN, STD)(photos)["pixel_values"].double()
    outputs = model.double().eval()(pixel_values=pixel_values, output_auxiliary_logits=True)
    assert (outputs.auxiliary_logits[0]["masks_queries_logits"] > 0).any()  # empty masks would hide the kernels
    return outputs.class_queries_logits, outputs.masks_queries_logits


def test_only_the_adapter_learns(photos: list[PanopticSample], tmp_path: Path) -> None:
    model = adapted_model()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    losses = train(model, photos, tmp_path, steps=10)
    assert sum(losses[-2:]) < 0.9 * sum(losses[:2])
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            assert parameter.abs().max() > 0, name
        is_trained = "lora_" in name or "modules_to_save" in name
        assert parameter.requires_grad == is_trained, name
        assert is_trained or torch.equal(parameter, before[name]), name


def test_adapter_opens_and_merges(photos: list[PanopticSample], tmp_path: Path) -> None:
    base_model().save_pretrained(tmp_path / "base")
    model = adapted_model(init_lora_weights=False)  # random, so that the adapter matters from the start
    train(model, photos, tmp_path / "run", steps=1)
    model.save_pretrained(tmp_path / "adapter")
    (weights,) = (tmp_path / "adapter").glob("*.safetensors")
    assert weights.stat().st_size < 0.1 * (tmp_path / "base" / "model.safetensors").stat().st_size

    expected = logits_of(model, photos)
    base = YosoForUniversalSegmentation.from_pretrained(tmp_path / "base")
    assert all((a - b).abs().max() > 0.1 for a, b in zip(expected, logits_of(base, photos), strict=True))
    loaded = PeftModel.from_pretrained(base, tmp_path / "adapter")
    torch.testing.assert_close(logits_of(loaded, photos), expected, rtol=1e-9, atol=1e-9)

    merged = loaded.merge_and_unload()
    assert type(merged) is YosoForUniversalSegmentation
    torch.testing.assert_close(logits_of(merged, photos), expected, rtol=1e-9, atol=1e-9)
    merged.save_pretrained(tmp_path / "merged")
    opened = YosoForUniversalSegmentation.from_pretrained(tmp_path / "merged", dtype=torch.float64)
    torch.testing.assert_close(logits_of(opened, photos), expected, rtol=1e-9, atol=1e-9)
