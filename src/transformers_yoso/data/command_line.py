"""Command-line arguments that say which dataset a script reads, named as in Transformers' example scripts."""

import argparse
from typing import Any

from .readers import ANNOTATION_FORMATS

PLACE = ("dataset_name", "dataset_config_name", "dataset_dir", "annotation_format")
LAYOUT = (
    *("image_column_name", "annotation_column_name", "segments_info_column_name", "do_reduce_labels"),
    *("categories_file", "stuff_category_ids"),
)


def add_dataset_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what `open_dataset` takes, but for the split."""
    parser.add_argument("--dataset_name", help="Dataset on the Hub, or a folder.")
    parser.add_argument("--dataset_config_name", help="Configuration of the dataset on the Hub.")
    parser.add_argument("--dataset_dir", help="Local folder: COCO layout, `save_to_disk`, parquet files.")
    parser.add_argument("--annotation_format", choices=ANNOTATION_FORMATS, help="Found out if not given.")
    parser.add_argument("--categories_file", help="Class table, where the dataset has none.")
    parser.add_argument(
        "--stuff_category_ids", type=int, nargs="*", help="Ids of stuff, where the table does not say."
    )
    parser.add_argument("--image_column_name", default="image")
    parser.add_argument("--annotation_column_name")
    parser.add_argument("--segments_info_column_name", default="segments_info")
    parser.add_argument("--do_reduce_labels", action="store_true", help="Semantic id 0 is void, others are one less.")


def dataset_place(arguments: argparse.Namespace) -> dict[str, Any]:
    """Where the dataset lies: what `list_splits` and `open_dataset` both take."""
    return {name: getattr(arguments, name) for name in PLACE}


def dataset_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """All that `open_dataset` takes besides the split."""
    return {name: getattr(arguments, name) for name in (*PLACE, *LAYOUT)}
