"""
Calculates images/s, hours and memory of a recipe on many GPUs from one that was measured; a calculation, no measurement.

python scripts/benchmark_data.py --dataset_dir data/coco --crop_size 1024 --per_device_train_batch_size 2 \\
    --output_json step.json
python scripts/estimate_schedule.py --recipe coco --measurement step.json --num_processes 1 8 16
"""

import argparse
import json
import sys
from pathlib import Path

from transformers_yoso.model_card.markdown_tables import markdown_table
from transformers_yoso.training import load_recipe, recipe_names
from transformers_yoso.training.schedule_estimate import ScheduleEstimate, StepMeasurement, estimate_schedule

RESNET50_PARAMETERS = 42_000_000


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="coco", help=f"{', '.join(recipe_names())}, or a YAML file.")
    parser.add_argument("--measurement", type=Path, help="JSON of scripts/benchmark_data.py on one of the GPUs.")
    parser.add_argument("--images_per_second", type=float, help="Of one process, instead of --measurement.")
    parser.add_argument("--memory_gib", type=float, help="Of one process, with --images_per_second.")
    parser.add_argument("--num_processes", type=int, nargs="+", default=[8])
    parser.add_argument("--num_parameters", type=int, default=RESNET50_PARAMETERS, help="Of the network.")
    parser.add_argument(
        "--bandwidth", type=float, help="GB/s between GPUs, to add the summing of gradients; default: hidden."
    )
    arguments = parser.parse_args()
    if (arguments.measurement is None) == (arguments.images_per_second is None):
        parser.error("give exactly one of --measurement and --images_per_second")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    try:
        measured, recipe = read_measurement(arguments), load_recipe(arguments.recipe)
        estimates = [
            estimate_schedule(
                measured,
                steps=recipe["max_train_steps"],
                total_batch_size=recipe["total_train_batch_size"],
                num_processes=number,
                num_parameters=arguments.num_parameters,
                bandwidth=arguments.bandwidth,
            )
            for number in arguments.num_processes
        ]
    except (ValueError, OSError) as error:
        sys.exit(f"No calculation: {error}")
    print(report(arguments, measured, estimates))


def read_measurement(arguments: argparse.Namespace) -> StepMeasurement:
    """From the file, or from the numbers on the command line."""
    if arguments.measurement is not None:
        return StepMeasurement.from_benchmark(json.loads(arguments.measurement.read_text(encoding="utf-8")))
    return StepMeasurement(
        arguments.images_per_second, None, arguments.memory_gib, "given on the command line, not checked here"
    )


def report(arguments: argparse.Namespace, measured: StepMeasurement, estimates: list[ScheduleEstimate]) -> str:
    """Inputs, assumptions and results as Markdown."""
    memory = "not measured" if measured.memory_gib is None else f"{measured.memory_gib:.1f} GiB"
    loading = measured.loading_images_per_second
    summing = (
        "the summing of gradients hides behind the backward pass"
        if arguments.bandwidth is None
        else f"gradients of {arguments.num_parameters} weights are summed afterwards at {arguments.bandwidth} GB/s"
    )
    rows = [
        [
            *(estimate.num_processes, estimate.steps, f"{estimate.images / 1e6:.2f} M"),
            *(f"{estimate.images_per_second:.3g}", f"{estimate.hours:.1f}", memory),
            f"{100 * estimate.communication_share:.1f} %",
            {None: "not measured", True: "yes", False: "no"}[estimate.loading_keeps_up],
        ]
        for estimate in estimates
    ]
    header = ["processes", "steps", "images", "images/s", "hours", "memory a step", "summing", "loading keeps up"]
    return (
        f"**Calculation** for the recipe {arguments.recipe}, not a measurement.\n\n"
        f"Measured, one process: {measured.images_per_second:.3g} images/s trained, "
        f"{'loading not measured' if loading is None else f'{loading:.3g} images/s loaded'}, memory {memory} "
        f"({measured.origin}).\n"
        f"Assumed: every process does the same; {summing}; memory is that of the measured step, whose batch is "
        "gathered to the recipe's by accumulation; evaluation and checkpoints are left out.\n\n"
        + markdown_table(header, rows)
    )


if __name__ == "__main__":
    main()
