"""Converts an official YOSO checkpoint to a Transformers model folder.

python scripts/convert_checkpoint.py --dataset coco --output_dir yoso-resnet50-coco
python scripts/convert_checkpoint.py --dataset coco --checkpoint yoso_res50_coco.pth --output_dir yoso-resnet50-coco
"""

import argparse
import sys
from pathlib import Path

from transformers_yoso.conversion.convert import convert_checkpoint
from transformers_yoso.conversion.dataset_specs import DATASET_SPECS


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Convert an official YOSO checkpoint to a Transformers model folder.")
    parser.add_argument("--dataset", required=True, choices=DATASET_SPECS, help="what the checkpoint was trained on")
    parser.add_argument("--checkpoint", help="path or URL of the .pth file (default: the authors' release v0.1)")
    parser.add_argument("--output_dir", required=True, type=Path, help="folder to write")
    parser.add_argument("--push_to_hub", action="store_true", help="also upload the folder to the Hub")
    parser.add_argument("--hub_model_id", help="repository on the Hub (default: the output folder's name)")
    args = parser.parse_args()
    if args.hub_model_id and not args.push_to_hub:
        parser.error("--hub_model_id needs --push_to_hub")
    return args


def main() -> None:
    args = parse_args()
    hub_model_id = (args.hub_model_id or args.output_dir.resolve().name) if args.push_to_hub else None
    try:
        model = convert_checkpoint(args.dataset, args.output_dir, args.checkpoint, hub_model_id)
    except (ValueError, OSError) as error:
        sys.exit(f"Not converted: {error}")
    print(
        f"Wrote {args.output_dir}: {model.num_parameters() / 1e6:.1f} M parameters, {model.config.num_labels} labels."
    )


if __name__ == "__main__":
    main()
