"""The command of the dataset checker: `yoso check-data` and `scripts/check_data.py`."""

import argparse
import json
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from ...models.configuration_yoso import YosoConfig
from ..command_line import add_dataset_arguments, dataset_options, dataset_place
from ..readers import PanopticDataset, list_splits, open_dataset
from . import Limits, check_dataset, format_report, save_picture_sheet, to_json

DESCRIPTION = """Checks a panoptic dataset: files, ids, classes, sizes, balance and doubled photos; exit code 1 if it has
errors."""


def parse_arguments(arguments: Sequence[str] | None, prog: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=prog, description=DESCRIPTION)
    add_dataset_arguments(parser)
    parser.add_argument("--splits", nargs="+", help="All splits if not given.")
    parser.add_argument("--num_queries", type=int, help="Of the model to be trained; 100 if not given.")
    parser.add_argument("--model_name_or_path", help="Checkpoint whose classes and queries the data should fit.")
    parser.add_argument("--max_void_share", type=float, default=0.5, help="Warn about photos with more void.")
    parser.add_argument("--max_crowd_share", type=float, default=0.3, help="Warn about photos with more crowd.")
    parser.add_argument("--output_json", type=Path, help="File for all findings and numbers.")
    parser.add_argument("--output_sheet", type=Path, help="Picture file for photos with findings and examples.")
    parser.add_argument("--dataloader_num_workers", type=int, default=0)
    parser.add_argument("--strict", action="store_true", help="Warnings give exit code 1 too.")
    return parser.parse_args(arguments)


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Runs the command, called `prog`, with the arguments `argv`; by default those of this process. Returns the exit code."""
    arguments = parse_arguments(argv, prog)
    options = dataset_options(arguments)

    @cache
    def open_split(split: str) -> PanopticDataset:
        return open_dataset(**options, split=split, validate=False)

    try:
        splits = arguments.splits or list_splits(**dataset_place(arguments))
        config = YosoConfig.from_pretrained(arguments.model_name_or_path) if arguments.model_name_or_path else None
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    num_queries = arguments.num_queries or (config.num_queries if config else Limits.num_queries)
    checks = check_dataset(
        open_split,
        splits,
        Limits(num_queries, arguments.max_void_share, arguments.max_crowd_share),
        model_labels=config.id2label if config else None,
        num_workers=arguments.dataloader_num_workers,
    )
    print(format_report(checks))
    result = to_json(checks)
    if arguments.output_json:
        arguments.output_json.parent.mkdir(parents=True, exist_ok=True)
        arguments.output_json.write_text(json.dumps(result, indent=2) + "\n")
    if arguments.output_sheet:
        save_picture_sheet(checks, open_split, arguments.output_sheet)
    return int(bool(result["num_errors"] or (arguments.strict and result["num_warnings"])))
