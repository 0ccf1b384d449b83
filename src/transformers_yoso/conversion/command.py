"""The command of conversion: `yoso convert` and `scripts/convert_checkpoint.py`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .convert import convert_checkpoint
from .dataset_specs import DATASET_SPECS

DESCRIPTION = "Convert an official YOSO checkpoint to a Transformers model folder."


def parse_arguments(arguments: Sequence[str] | None, prog: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=prog, description=DESCRIPTION)
    parser.add_argument("--dataset", required=True, choices=DATASET_SPECS, help="what the checkpoint was trained on")
    parser.add_argument("--checkpoint", help="path or URL of the .pth file (default: the authors' release v0.1)")
    parser.add_argument("--output_dir", required=True, type=Path, help="folder to write")
    parser.add_argument("--push_to_hub", action="store_true", help="also upload the folder to the Hub")
    parser.add_argument("--hub_model_id", help="repository on the Hub (default: the output folder's name)")
    parsed = parser.parse_args(arguments)
    if parsed.hub_model_id and not parsed.push_to_hub:
        parser.error("--hub_model_id needs --push_to_hub")
    return parsed


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> None:
    """Runs the command, called `prog`, with the arguments `argv`; by default those of this process."""
    args = parse_arguments(argv, prog)
    hub_model_id = (args.hub_model_id or args.output_dir.resolve().name) if args.push_to_hub else None
    try:
        model = convert_checkpoint(args.dataset, args.output_dir, args.checkpoint, hub_model_id)
    except (ValueError, OSError) as error:
        sys.exit(f"Not converted: {error}")
    print(
        f"Wrote {args.output_dir}: {model.num_parameters() / 1e6:.1f} M parameters, {model.config.num_labels} labels."
    )
