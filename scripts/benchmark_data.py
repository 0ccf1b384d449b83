"""Images/s of data loading alone (decode, augment, collate) beside images/s of the training step; prints their ratio."""

import argparse
import json
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.utils.data import DataLoader

from transformers_yoso.data import AugmentedDataset, PanopticCollator, TrainingAugmentation, open_dataset
from transformers_yoso.model_card import describe_hardware
from transformers_yoso.models.image_processing_yoso import YosoImageProcessor
from transformers_yoso.models.modeling_yoso import YosoForUniversalSegmentation
from transformers_yoso.training.memory import peak_memory
from transformers_yoso.training.parameter_groups import build_parameter_groups
from transformers_yoso.training.speed import prepare_for_speed

ROOT = Path(__file__).resolve().parents[1]
PREFETCH_FACTOR = 2


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset_dir", required=True, help="Local folder with the dataset.")
    parser.add_argument("--split", default="train")
    parser.add_argument("--model_name_or_path", default=str(ROOT / "checkpoints/yoso-lite0-facade"))
    parser.add_argument("--crop_size", type=int, default=512, help="Side of the training crop in pixels.")
    parser.add_argument("--scale_range", type=float, nargs=2, default=[0.5, 2.0], help="Relative to the crop.")
    parser.add_argument("--color_distortion", action="store_true")
    parser.add_argument("--per_device_train_batch_size", type=int, default=8)
    parser.add_argument("--dataloader_num_workers", type=int, default=2)
    parser.add_argument("--num_batches", type=int, default=8, help="Batches of data loading in a round.")
    parser.add_argument("--num_steps", type=int, default=2, help="Training steps in a round.")
    parser.add_argument("--num_rounds", type=int, default=3, help="Rounds, in each of which both are timed in turn.")
    parser.add_argument("--use_cpu", action="store_true", help="Train on the CPU even if there is a GPU.")
    parser.add_argument("--output_json", type=Path)
    return parser.parse_args()


def endless_batches(arguments: argparse.Namespace, image_processor: YosoImageProcessor) -> Iterator[dict[str, Any]]:
    """Batches as training gets them."""
    dataset = open_dataset(dataset_dir=arguments.dataset_dir, split=arguments.split)
    augmentation = TrainingAugmentation(arguments.crop_size, arguments.scale_range, arguments.color_distortion)
    workers = arguments.dataloader_num_workers
    loader = DataLoader(
        AugmentedDataset(dataset, augmentation, seed=0),
        batch_sampler=dataset.batches(arguments.per_device_train_batch_size, seed=0),
        collate_fn=PanopticCollator(image_processor.image_mean, image_processor.image_std),
        num_workers=workers,
        prefetch_factor=PREFETCH_FACTOR if workers else None,
    )
    return iter(loader)


class TrainingStep:
    """Forward, backward and optimiser step on one batch, without data loading."""

    def __init__(self, model: YosoForUniversalSegmentation, device: torch.device):
        self.model, self.device = model.to(device).train(), device
        prepare_for_speed(self.model, device)
        self.optimizer = torch.optim.AdamW(build_parameter_groups(self.model, 1e-6, 0.1, 0.05), lr=1e-6)

    def __call__(self, batch: dict[str, Any]) -> None:
        inputs = {
            name: [item.to(self.device) for item in value] if isinstance(value, list) else value.to(self.device)
            for name, value in batch.items()
            if name != "file_names"
        }
        loss = self.model(**inputs).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 0.1)
        self.optimizer.step()
        self.optimizer.zero_grad()
        loss.item()  # waits for the device


def time_loading(batches: Iterator[dict[str, Any]], arguments: argparse.Namespace) -> tuple[float, dict[str, Any]]:
    """Seconds for a round's batches, and the last of them; what workers made ahead is taken away first."""
    for _ in range(arguments.dataloader_num_workers * PREFETCH_FACTOR + 1):
        batch = next(batches)
    start = time.perf_counter()
    for _ in range(arguments.num_batches):
        batch = next(batches)
    return time.perf_counter() - start, batch


def time_training(step: TrainingStep, batch: dict[str, Any], arguments: argparse.Namespace) -> float:
    """Seconds for a round's steps."""
    start = time.perf_counter()
    for _ in range(arguments.num_steps):
        step(batch)
    return time.perf_counter() - start


def main() -> None:
    arguments = parse_arguments()
    device = torch.device("cuda" if torch.cuda.is_available() and not arguments.use_cpu else "cpu")
    image_processor = YosoImageProcessor.from_pretrained(arguments.model_name_or_path)
    model = YosoForUniversalSegmentation.from_pretrained(arguments.model_name_or_path, dtype=torch.float32)
    step, batches = TrainingStep(model, device), endless_batches(arguments, image_processor)
    step(next(batches))
    rounds = []
    for number in range(1, arguments.num_rounds + 1):
        seconds, batch = time_loading(batches, arguments)
        loading = arguments.num_batches * arguments.per_device_train_batch_size / seconds
        seconds = time_training(step, batch, arguments)
        training = arguments.num_steps * arguments.per_device_train_batch_size / seconds
        rounds.append({"loading": loading, "training": training, "ratio": loading / training})
        print(f"round {number}: loading {loading:.1f} images/s, training {training:.2f} images/s", flush=True)
    medians = {name: median(values[name] for values in rounds) for name in rounds[0]}
    print(
        f"\n{Path(arguments.model_name_or_path).name}, {arguments.crop_size} px, batch "
        f"{arguments.per_device_train_batch_size}, {arguments.dataloader_num_workers} workers, {device.type}, "
        f"{torch.get_num_threads()} threads, {platform.machine()} with {os.cpu_count()} cores\n"
        f"median: loading {medians['loading']:.1f} images/s, training {medians['training']:.2f} images/s, "
        f"ratio {medians['ratio']:.1f}"
    )
    if arguments.output_json:
        settings = {name: str(value) for name, value in vars(arguments).items()}
        result = {
            **{"median": medians, "rounds": rounds, "memory_gib": peak_memory(device)},
            **{"device": device.type, "hardware": describe_hardware(device), "settings": settings},
        }
        arguments.output_json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
