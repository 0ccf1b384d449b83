"""Scores a YOSO checkpoint on a split in COCO panoptic form: PQ, SQ and RQ of all, things, stuff and each class."""

import argparse
import json
from pathlib import Path

import torch
from accelerate import Accelerator

from transformers_yoso.data import CocoPanopticDataset
from transformers_yoso.models.image_processing_yoso import YosoImageProcessor
from transformers_yoso.models.modeling_yoso import YosoForUniversalSegmentation
from transformers_yoso.training import evaluate_panoptic, format_table


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model_name_or_path", required=True, help="Checkpoint folder or Hub name.")
    parser.add_argument(
        "--dataset_dir", required=True, help="Folder with SPLIT/, panoptic_SPLIT/, panoptic_SPLIT.json."
    )
    parser.add_argument("--split", default="val")
    parser.add_argument("--output_json", type=Path, help="File for the scores.")
    parser.add_argument(
        "--size", type=int, nargs=2, metavar=("SHORTEST", "LONGEST"), help="Instead of the saved edges."
    )
    parser.add_argument("--object_threshold", type=float, help="Instead of the saved one.")
    parser.add_argument("--overlap_threshold", type=float, help="Instead of the saved one.")
    parser.add_argument("--mixed_precision", choices=["no", "bf16", "fp16"], default="no")
    parser.add_argument("--use_cpu", action="store_true", help="Stay on the CPU even if there is a GPU.")
    parser.add_argument("--dataloader_num_workers", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    accelerator = Accelerator(mixed_precision=arguments.mixed_precision, cpu=arguments.use_cpu)
    dataset = CocoPanopticDataset.from_folder(arguments.dataset_dir, arguments.split)
    model = YosoForUniversalSegmentation.from_pretrained(arguments.model_name_or_path, dtype=torch.float32)
    names = model.config.id2label
    if names != dataset.categories.id2label:
        raise ValueError(
            f"The labels of {arguments.model_name_or_path} ({len(names)}) and the categories of {dataset.json_file} "
            f"({len(dataset.categories.id2label)}) differ; the model cannot be scored on this dataset."
        )
    changes = {}
    if arguments.size is not None:
        changes["size"] = {"shortest_edge": arguments.size[0], "longest_edge": arguments.size[1]}
    if arguments.object_threshold is not None:
        changes["threshold"] = arguments.object_threshold
    if arguments.overlap_threshold is not None:
        changes["overlap_mask_area_threshold"] = arguments.overlap_threshold
    image_processor = YosoImageProcessor.from_pretrained(arguments.model_name_or_path, **changes)
    result = evaluate_panoptic(
        model.to(accelerator.device), image_processor, dataset, accelerator, arguments.dataloader_num_workers
    )
    if accelerator.is_main_process:
        print(format_table(result, names))
        print(f"{result['num_images']} photos in {result['seconds']:.1f} s")
        if arguments.output_json is not None:
            named = {names[label]: scores for label, scores in result["per_class"].items()}
            arguments.output_json.write_text(json.dumps({**result, "per_class": named}, indent=2) + "\n")
    accelerator.end_training()


if __name__ == "__main__":
    main()
