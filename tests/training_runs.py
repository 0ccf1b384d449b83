"""Small training runs for the tests: a tiny model, a few real photos, few steps."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from accelerate import Accelerator
from transformers import TimmBackboneConfig, set_seed

from transformers_yoso.data import CategoryTable, CocoPanopticDataset
from transformers_yoso.data.readers.base import PanopticDataset
from transformers_yoso.models.configuration_yoso import YosoConfig
from transformers_yoso.models.modeling_yoso import YosoForUniversalSegmentation
from transformers_yoso.training import (
    DataArguments,
    ModelArguments,
    OptimizationArguments,
    OutputArguments,
    PanopticTrainer,
    TrainingRun,
    build_image_processor,
)

ROOT = Path(__file__).resolve().parents[1]
TRAIN = ROOT / "scripts" / "train.py"
OUTPUT_ARGUMENTS = set(OutputArguments.__dataclass_fields__)
TINY_NETWORK = (
    *("--backbone", "test_resnet", "--pyramid_channels", "16", "16", "16", "16", "--aggregation_dim", "16"),
    *("--hidden_dim", "32", "--feedforward_dim", "32", "--num_queries", "20", "--train_num_points", "128"),
)


class FewPhotos(PanopticDataset):
    """The first photos of a dataset."""

    def __init__(self, dataset: CocoPanopticDataset, length: int):
        self.dataset, self.length = dataset, length
        self.categories, self.source = dataset.categories, dataset.source

    def __len__(self) -> int:
        return self.length

    def read_record(self, index: int):
        return self.dataset.read_record(index)


def small_model(categories: CategoryTable, seed: int = 0) -> YosoForUniversalSegmentation:
    set_seed(seed)
    config = YosoConfig(
        backbone_config=TimmBackboneConfig(
            backbone="test_resnet", out_indices=[-4, -3, -2, -1], freeze_batch_norm_2d=True
        ),
        pyramid_channels=[16, 16, 16, 16],
        aggregation_dim=16,
        hidden_dim=32,
        feedforward_dim=32,
        num_queries=20,
        train_num_points=128,
        id2label=categories.id2label,
        stuff_label_ids=categories.stuff_label_ids,
    )
    return YosoForUniversalSegmentation(config)


def small_run(output_dir: Path, **changes: object) -> TrainingRun:
    output = {"output_dir": str(output_dir), "logging_steps": 1, "eval_steps": 100, "checkpointing_steps": 2}
    optimization = {
        **{"use_cpu": True, "max_train_steps": 4, "per_device_train_batch_size": 2, "learning_rate": 1e-3},
        **{name: value for name, value in changes.items() if name not in OUTPUT_ARGUMENTS},
    }
    output.update({name: value for name, value in changes.items() if name in OUTPUT_ARGUMENTS})
    data = DataArguments(dataset_dir="unused", image_size=64, validation_size=[96, 160])
    return TrainingRun(
        ModelArguments(object_threshold=0.0), data, OptimizationArguments(**optimization), OutputArguments(**output)
    )


def small_trainer(
    photos: CocoPanopticDataset, output_dir: Path, train_dataset=None, seed_of_model: int = 0, **changes: object
) -> PanopticTrainer:
    run = small_run(output_dir, **changes)
    model = small_model(photos.categories, seed_of_model)
    image_processor = build_image_processor(run.model, run.data, photos.categories)
    accelerator = Accelerator(cpu=True, mixed_precision=run.optimization.mixed_precision)
    train_dataset = FewPhotos(photos, 5) if train_dataset is None else train_dataset
    return PanopticTrainer(model, image_processor, train_dataset, FewPhotos(photos, 1), run, accelerator)


def log_of(output_dir: Path) -> list[dict]:
    return [json.loads(line) for line in (output_dir / "log.jsonl").read_text().splitlines()]


def few_photos_folder(source: Path, folder: Path, numbers: dict[str, int]) -> Path:
    """A COCO panoptic folder with the first photos of each split of `source`."""
    folder.mkdir()
    for split, number in numbers.items():
        content = json.loads((source / f"panoptic_{split}.json").read_text())
        content["annotations"] = content["annotations"][:number]
        names = {annotation["image_id"] for annotation in content["annotations"]}
        content["images"] = [image for image in content["images"] if image["id"] in names]
        (folder / f"panoptic_{split}.json").write_text(json.dumps(content))
        for name in (split, f"panoptic_{split}"):
            (folder / name).symlink_to((source / name).resolve())
    return folder


def training_command(
    dataset_dir: Path, output_dir: Path, *arguments: str, launcher: Sequence[str] = (), script: Path = TRAIN
) -> list[str]:
    """Of scripts/train.py with a tiny network on the CPU."""
    return [
        *(launcher or [sys.executable]),
        str(script),
        *("--dataset_dir", str(dataset_dir), "--output_dir", str(output_dir), "--use_cpu", *TINY_NETWORK),
        *("--image_size", "64", "--validation_size", "96", "160", "--object_threshold", "0", "--logging_steps", "1"),
        *arguments,
    ]


def launch(command: list[str], **options: object) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1"}
    options = {"stdout": subprocess.PIPE, **options}
    return subprocess.Popen(command, env=environment, stderr=subprocess.STDOUT, text=True, **options)
