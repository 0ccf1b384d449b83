"""
Mask AP of a panoptic checkpoint on COCO `instances` annotations at one or several scales; one process or `torchrun`.

python scripts/evaluate_instances.py --model_name_or_path checkpoints/yoso-r50-coco --dataset_dir coco \\
    --split val2017 --scales 448 550 608
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from transformers_yoso.data import CocoInstancesDataset
from transformers_yoso.evaluation.coco_instances import evaluate_coco_instances
from transformers_yoso.models.image_processing_yoso import YosoImageProcessor
from transformers_yoso.models.modeling_yoso import YosoForUniversalSegmentation

COLUMNS = {"ap": "AP", "ap50": "AP50", "ap75": "AP75", "ap_small": "APs", "ap_medium": "APm", "ap_large": "APl"}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model_name_or_path", required=True, help="Checkpoint folder or Hub name.")
    parser.add_argument(
        "--dataset_dir", required=True, help="Folder with SPLIT/ and instances_SPLIT.json, maybe in annotations/."
    )
    parser.add_argument("--split", default="val2017")
    parser.add_argument(
        "--scales",
        type=int,
        nargs="+",
        help="Shortest edges in pixels; the longest is capped in the saved proportion. Default: the saved size.",
    )
    parser.add_argument("--batch_size", type=int, default=1, help="Images per forward pass and process.")
    parser.add_argument("--mixed_precision", choices=["no", "bf16", "fp16"], default="no")
    parser.add_argument("--use_cpu", action="store_true", help="Stay on the CPU even if there is a GPU.")
    parser.add_argument("--dataloader_num_workers", type=int, default=0)
    parser.add_argument("--output_dir", type=Path, help="Folder for scores.json and instances_SCALE.json (results).")
    arguments = parser.parse_args()
    if min(arguments.scales or [1]) < 1 or arguments.batch_size < 1:
        parser.error("--scales and --batch_size must be at least 1")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    accelerator = Accelerator(mixed_precision=arguments.mixed_precision, cpu=arguments.use_cpu)
    dataset = CocoInstancesDataset.from_folder(arguments.dataset_dir, arguments.split)
    model = YosoForUniversalSegmentation.from_pretrained(arguments.model_name_or_path).to(accelerator.device)
    scores: dict[int, dict[str, Any]] = {}
    accelerator.print("scale  longest" + "".join(f"{title:>7}" for title in COLUMNS.values()))
    for size in sizes_of(arguments):
        image_processor = YosoImageProcessor.from_pretrained(arguments.model_name_or_path, size=size)
        result = evaluate_coco_instances(
            model,
            image_processor,
            dataset,
            accelerator,
            batch_size=arguments.batch_size,
            num_workers=arguments.dataloader_num_workers,
            show_progress=True,
        )
        scale, results = size["shortest_edge"], result.pop("results")
        scores[scale] = {"size": size, **result}
        accelerator.print(f"{scale:5}  {size['longest_edge']:7}" + "".join(cell(result[key]) for key in COLUMNS))
        if arguments.output_dir is not None and accelerator.is_main_process:
            write_json(arguments.output_dir / f"instances_{scale}.json", results)
    if arguments.output_dir is not None and accelerator.is_main_process:
        run = {"model": arguments.model_name_or_path, "split": arguments.split, "num_images": len(dataset)}
        write_json(arguments.output_dir / "scores.json", {**run, "scales": scores})
    accelerator.end_training()


def sizes_of(arguments: argparse.Namespace) -> list[dict[str, int]]:
    """The sizes to evaluate at, each with `shortest_edge` and `longest_edge` in pixels."""
    saved = YosoImageProcessor.from_pretrained(arguments.model_name_or_path).size
    ratio = saved["longest_edge"] / saved["shortest_edge"]
    scales = arguments.scales or [saved["shortest_edge"]]
    return [{"shortest_edge": scale, "longest_edge": round(scale * ratio)} for scale in scales]


def cell(value: float | None) -> str:
    """A share in per cent, or a dash where no instance is true."""
    return f"{'-':>7}" if value is None else f"{100 * value:7.1f}"


def write_json(file: Path, content: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content) + "\n", encoding="utf-8")


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"Not evaluated: {error}")
