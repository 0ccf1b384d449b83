"""Writes the splits of a COCO panoptic folder as parquet shards for streamed training.

python scripts/make_shards.py --dataset_dir data/coco --splits train val --output_dir shards/coco
"""

import argparse
import sys

from transformers_yoso.data import CocoPanopticDataset
from transformers_yoso.data.parquet_shards import write_parquet_shards


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_dir", required=True, help="Folder in COCO panoptic layout.")
    parser.add_argument("--splits", nargs="+", default=["train", "val"])
    parser.add_argument("--shard_size", type=int, default=512, help="Photos in a file.")
    parser.add_argument("--output_dir", required=True, help="Folder for the parquet files and categories.json.")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    try:
        for split in arguments.splits:
            dataset = CocoPanopticDataset.from_folder(arguments.dataset_dir, split)
            files = write_parquet_shards(dataset, arguments.output_dir, split, arguments.shard_size)
            print(f"{split}: {len(dataset)} photos in {len(files)} files")
    except (ValueError, OSError) as error:
        sys.exit(f"No shards: {error}")


if __name__ == "__main__":
    main()
