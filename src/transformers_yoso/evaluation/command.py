"""The command of evaluation: `yoso evaluate` and `scripts/evaluate.py`, which runs under `torchrun` as well."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from transformers.utils import logging

from ..data import open_dataset
from ..data.command_line import add_dataset_arguments, dataset_options
from ..models.image_processing_yoso import YosoImageProcessor
from .best_and_worst import save_best_and_worst
from .coco_panoptic_writer import CocoPanopticWriter
from .evaluate_model import evaluate_model
from .model_loading import load_for_evaluation
from .prediction import SUBTASKS
from .tables import format_table

DESCRIPTION = "Scores a YOSO checkpoint on a dataset: PQ, SQ and RQ, instance AP, semantic IoU."


def parse_arguments(arguments: Sequence[str] | None, prog: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=prog, description=DESCRIPTION)
    parser.add_argument("--model_name_or_path", required=True, help="Checkpoint folder or Hub name.")
    add_dataset_arguments(parser)
    parser.add_argument("--split", default="val")
    parser.add_argument("--subtask", nargs="+", choices=SUBTASKS, default=["panoptic"], help="What to score.")
    parser.add_argument("--output_json", type=Path, help="File for the scores.")
    parser.add_argument(
        "--output_dir", type=Path, help="Folder for scores.json and best_and_worst.png, a sheet of photos by PQ."
    )
    parser.add_argument(
        "--save_predictions",
        action="store_true",
        help="Also write panoptic_SPLIT/ and panoptic_SPLIT.json in COCO panoptic form into OUTPUT_DIR.",
    )
    parser.add_argument(
        "--size", type=int, nargs=2, metavar=("SHORTEST", "LONGEST"), help="Instead of the saved edges."
    )
    parser.add_argument("--object_threshold", type=float, help="Instead of the saved one.")
    parser.add_argument("--overlap_threshold", type=float, help="Instead of the saved one.")
    parser.add_argument("--num_inference_stages", type=int, help="Stop after this stage of the decoder (early exit).")
    parser.add_argument("--batch_size", type=int, default=1, help="Images per forward pass and process.")
    parser.add_argument("--mixed_precision", choices=["no", "bf16", "fp16"], default="no")
    parser.add_argument("--use_cpu", action="store_true", help="Stay on the CPU even if there is a GPU.")
    parser.add_argument("--dataloader_num_workers", type=int, default=0)
    parsed = parser.parse_args(arguments)
    if parsed.save_predictions and (parsed.output_dir is None or "panoptic" not in parsed.subtask):
        parser.error("--save_predictions needs --output_dir and --subtask panoptic")
    if parsed.batch_size < 1:
        parser.error(f"--batch_size must be at least 1, not {parsed.batch_size}")
    return parsed


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> None:
    """Runs the command, called `prog`, with the arguments `argv`; by default those of this process."""
    arguments = parse_arguments(argv, prog)
    logging.disable_progress_bar()  # of loading; evaluation has its own
    accelerator = Accelerator(mixed_precision=arguments.mixed_precision, cpu=arguments.use_cpu)
    dataset = open_dataset(**dataset_options(arguments), split=arguments.split)
    model, image_processor = load_for_evaluation(
        arguments.model_name_or_path,
        dataset.categories,
        source=dataset.source,
        device=accelerator.device,
        size=arguments.size,
        threshold=arguments.object_threshold,
        overlap_threshold=arguments.overlap_threshold,
        num_inference_stages=arguments.num_inference_stages,
    )
    writer = None
    if arguments.save_predictions:
        writer = CocoPanopticWriter(arguments.output_dir, f"panoptic_{arguments.split}", dataset.categories)
    result = evaluate_model(
        model,
        image_processor,
        dataset,
        accelerator,
        subtasks=arguments.subtask,
        batch_size=arguments.batch_size,
        num_workers=arguments.dataloader_num_workers,
        show_progress=True,
        on_prediction=None if writer is None else writer.add,
    )
    if writer is not None:
        writer.finish(accelerator)
    if accelerator.is_main_process:
        print(format_table(result, model.config.id2label))
        print(f"{result['num_images']} photos in {result['seconds']:.1f} s")
        write_scores(arguments, describe_run(arguments, image_processor), result, model.config.id2label)
        if arguments.output_dir is not None and "images" in result:
            sheet = arguments.output_dir / "best_and_worst.png"
            save_best_and_worst(model, image_processor, dataset, result["images"], sheet, accelerator)
    accelerator.end_training()


def describe_run(arguments: argparse.Namespace, image_processor: YosoImageProcessor) -> dict[str, Any]:
    """What the scores belong to."""
    thresholds = ("threshold", "mask_threshold", "overlap_mask_area_threshold")
    return {
        "model": arguments.model_name_or_path,
        "dataset": arguments.dataset_name or Path(arguments.dataset_dir).name,
        "split": arguments.split,
        "size": {key: image_processor.size[key] for key in ("shortest_edge", "longest_edge")},
        "thresholds": {name: getattr(image_processor, name) for name in thresholds},
        **({} if arguments.num_inference_stages is None else {"stages": arguments.num_inference_stages}),
    }


def write_scores(
    arguments: argparse.Namespace, run: dict[str, Any], result: dict[str, Any], id2label: dict[int, str]
) -> None:
    """Writes the result, with names in place of label ids, to the files that were asked for."""
    files = [arguments.output_json] if arguments.output_json is not None else []
    if arguments.output_dir is not None:
        files.append(arguments.output_dir / "scores.json")
    text = json.dumps({**run, **name_labels(result, id2label)}, indent=2) + "\n"
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


def name_labels(scores: dict[str, Any], id2label: dict[int, str]) -> dict[str, Any]:
    """The same scores with label names as the keys of every `per_class`."""
    named = {}
    for key, value in scores.items():
        if key == "per_class":
            value = {id2label[label]: values for label, values in value.items()}
        elif isinstance(value, dict):
            value = name_labels(value, id2label)
        named[key] = value
    return named
