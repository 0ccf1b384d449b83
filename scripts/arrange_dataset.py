"""Brings COCO, Cityscapes, ADE20K or Mapillary Vistas, as their own tools leave them, into the layout for training.

python scripts/arrange_dataset.py --dataset cityscapes --source_dir cityscapes --output_dir data/cityscapes
"""

import argparse
import sys

from transformers_yoso.conversion.official_layouts import OFFICIAL_LAYOUTS, arrange_dataset


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, choices=OFFICIAL_LAYOUTS)
    parser.add_argument("--source_dir", required=True, help="Official folder, see model_zoo/DATASET.md.")
    parser.add_argument("--output_dir", required=True, help="Folder for links to photos and maps, and JSON files.")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    try:
        counts = arrange_dataset(arguments.dataset, arguments.source_dir, arguments.output_dir)
    except (ValueError, OSError) as error:
        sys.exit(f"Not arranged: {error}")
    print(f"Wrote {arguments.output_dir}: " + ", ".join(f"{count} photos of {name}" for name, count in counts.items()))


if __name__ == "__main__":
    main()
