"""The benchmark's command line: options, files, and the exit code of the regression check."""

import argparse
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ..inference.packaged_files import default_checkpoint, demo_photo
from ..models.canvas import SIZE_DIVISOR
from .case import parse_size
from .environment import restart_with_steady_malloc
from .plot import plot_times
from .registry import ARCHITECTURES, VariantName, default_variants
from .regression import compare_runs, describe
from .report import render, summary_table
from .run import Options, run_benchmark
from .summary import SIZES

DESCRIPTION = """Measures YOSO's forms beside a literal implementation of the released code, the bare backbone and
Transformers' peers, interleaved in one process, and writes benchmark.json, benchmark.md and benchmark.png."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/benchmark"), help="Folder for the results.")
    parser.add_argument(
        "--variants",
        nargs="+",
        metavar="NAME",
        help=f"One of {', '.join(ARCHITECTURES)}, then +bf16 or +fp16, then +compiled. Default: all that fit the device.",
    )
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), metavar="HxW", help="Input sizes in pixels.")
    parser.add_argument("--target_size", default="480x800", metavar="HxW", help="Size of the maps in pixels.")
    parser.add_argument("--image", type=Path, help="Photo; by default the one that comes with the package.")
    parser.add_argument("--rounds", type=int, default=7, help="Measurements of each timing.")
    parser.add_argument("--threads", type=int, default=2, help="Threads of torch and onnxruntime.")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--dtype", default="bf16", choices=["bf16", "fp16"], help="The reduced precision.")
    parser.add_argument(
        "--allocator",
        default="steady",
        choices=["steady", "default"],
        help="steady: start anew with glibc settings that keep freed memory; default: leave them.",
    )
    parser.add_argument(
        "--checkpoint",
        type=Path,
        help="Trained model for the accuracy section; by default the one that comes with the package.",
    )
    parser.add_argument("--dataset_dir", type=Path, help="COCO panoptic folder for PQ. Default: --image, without PQ.")
    parser.add_argument("--split", default="val")
    parser.add_argument("--skip_accuracy", action="store_true", help="Leave the accuracy section out.")
    parser.add_argument("--compare", type=Path, metavar="JSON", help="Saved benchmark.json to compare with.")
    parser.add_argument("--tolerance", type=float, default=1.1, help="Factor by which a ratio may have grown.")


def options_from(arguments: argparse.Namespace) -> Options:
    """Checked options.

    Raises:
        ValueError: an unknown variant or a wrong size.
        FileNotFoundError: no such photo, checkpoint, dataset or saved run.
    """
    arguments.image = arguments.image or demo_photo()
    arguments.checkpoint = arguments.checkpoint or default_checkpoint()
    paths = {"--image": arguments.image, "--dataset_dir": arguments.dataset_dir, "--compare": arguments.compare}
    if not arguments.skip_accuracy:
        paths["--checkpoint"] = arguments.checkpoint
    for name, path in paths.items():
        if path is not None and not path.exists():
            raise FileNotFoundError(f"{name} {path} does not exist.")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("There is no GPU that torch can use here; leave out `--device cuda`.")
    device = torch.device(arguments.device)
    names = arguments.variants or default_variants(device, arguments.dtype)
    return Options(
        variants=[VariantName.parse(name) for name in names],
        sizes=[parse_size(size, SIZE_DIVISOR) for size in arguments.sizes],
        target_size=parse_size(arguments.target_size),
        image=arguments.image,
        device=device,
        precision=arguments.dtype,
        rounds=arguments.rounds,
        threads=arguments.threads,
        checkpoint=None if arguments.skip_accuracy else arguments.checkpoint,
        dataset_dir=arguments.dataset_dir,
        split=arguments.split,
    )


def write_results(result: Mapping[str, Any], output_dir: Path) -> None:
    """JSON, Markdown and plot."""
    output_dir.mkdir(parents=True, exist_ok=True)
    (output_dir / "benchmark.json").write_text(json.dumps(result, indent=2) + "\n")
    (output_dir / "benchmark.md").write_text(render(result) + "\n")
    environment = result["environment"]
    title = f"{environment.get('gpu', environment['processor'])}, {environment['threads']} threads"
    timings = {size: content["timings"] for size, content in result["sizes"].items()}
    plot_times(timings, title, output_dir / "benchmark.png")


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> None:
    """Runs the command; exits with 1 if the regression check finds something slower, with 2 on wrong options."""
    parser = argparse.ArgumentParser(prog=prog, description=DESCRIPTION)
    add_arguments(parser)
    arguments = parser.parse_args(argv)
    try:
        options = options_from(arguments)
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))
    if arguments.allocator == "steady" and sys.platform == "linux":
        restart_with_steady_malloc()
    logging.basicConfig(format="%(message)s")
    logging.getLogger(__package__).setLevel(logging.INFO)
    for result in run_benchmark(options):
        write_results(result, arguments.output_dir)
    print(summary_table(result["summary"]))
    print(f"wrote {arguments.output_dir}/benchmark.json, .md and .png")
    if arguments.compare is not None:
        comparison = compare_runs(result, json.loads(arguments.compare.read_text()), arguments.tolerance)
        print(describe(comparison, arguments.tolerance))
        if comparison.slower:
            sys.exit(1)
