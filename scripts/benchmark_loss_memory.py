"""Measures the peak memory of the training loss next to a straight implementation with full float masks.

python scripts/benchmark_loss_memory.py --output_json loss_memory.json
"""

import argparse
import json
from pathlib import Path

from transformers_yoso.benchmark.loss_memory import add_case_arguments, case_from, measure_loss_memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_case_arguments(parser)
    parser.add_argument("--output_json", type=Path, help="File for the numbers.")
    arguments = parser.parse_args()
    result = measure_loss_memory(case_from(arguments), arguments.threads)
    for name in ("ours", "straight"):
        print("{0:9s}{extra_peak_mb:9.0f} MB{seconds:8.1f} s   loss {loss:.4f}".format(name, **result[name]))
    print(f"share    {result['share']:9.3f}   (promised: at most {result['promised_share']})")
    if arguments.output_json is not None:
        arguments.output_json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
