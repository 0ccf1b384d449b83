"""The command line of the paper's tables: what to compute, and the files."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ..benchmark.environment import describe_environment, restart_with_steady_malloc
from .aggregation_table import aggregation_table
from .attention_table import attention_table, reduction_table
from .decoder_tables import decoder_tables
from .figures import plot_attention, plot_model_times, plot_quality_over_speed, plot_reduction, plot_sweeps
from .model_tables import cost_table, time_table
from .table import Table

DESCRIPTION = """Computes the paper's tables and figures that need no dataset, beside the paper's numbers: operations by
formula and counted, parameters, latencies and frames per second on this machine. Writes paper_tables.md, a CSV file
for each table, and pictures."""

SECTIONS = ("aggregation", "attention", "decoder", "models")
ROUNDS, QUICK_ROUNDS = 7, 1


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=DESCRIPTION)
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/paper_tables"), help="Folder for the files.")
    parser.add_argument(
        "--sections",
        nargs="+",
        choices=SECTIONS,
        default=list(SECTIONS),
        help="aggregation: Table 5. attention: Table 6, Figure 5. decoder: Tables 7-10. models: the four models, "
        "Figure 4.",
    )
    parser.add_argument("--threads", type=int, default=2, help="Threads of torch.")
    parser.add_argument(
        "--quick", action="store_true", help=f"{QUICK_ROUNDS} measurement of each time instead of {ROUNDS}."
    )
    arguments = parser.parse_args(argv)
    if arguments.threads < 1:
        parser.error("--threads must be at least 1.")
    if sys.platform == "linux":
        restart_with_steady_malloc()
    torch.set_num_threads(arguments.threads)
    environment = describe_environment(torch.device("cpu"))
    rounds = QUICK_ROUNDS if arguments.quick else ROUNDS
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    tables = [
        table
        for section in SECTIONS
        if section in arguments.sections
        for table in write_section(section, rounds, hardware_of(environment), arguments.output_dir)
    ]
    (arguments.output_dir / "paper_tables.md").write_text(render(tables, environment, rounds))
    print(f"Wrote {len(tables)} tables to {arguments.output_dir}/paper_tables.md, with CSV files and pictures.")


def write_section(section: str, rounds: int, hardware: str, folder: Path) -> list[Table]:
    """Computes the tables of a section and writes their CSV files and pictures."""
    if section == "aggregation":
        tables = [aggregation_table(rounds)]
    elif section == "attention":
        tables = [attention_table(rounds), reduction_table()]
        plot_attention(tables[0], hardware, folder / tables[0].pictures[0])
        plot_reduction(tables[1], folder / tables[1].pictures[0])
    elif section == "decoder":
        tables = decoder_tables(rounds)
        plot_sweeps(tables, hardware, folder / tables[-1].pictures[0])
    else:
        tables = [cost_table(), time_table(rounds)]
        plot_model_times(tables[1], hardware, folder / tables[1].pictures[0])
        plot_quality_over_speed(tables[1], hardware, folder / tables[1].pictures[1])
    for table in tables:
        table.write_csv(folder)
    return tables


def hardware_of(environment: Mapping[str, Any]) -> str:
    """Processor and threads."""
    threads = environment["threads"]
    return f"{environment['processor']}, {threads} thread{'s' if threads > 1 else ''}"


def render(tables: Sequence[Table], environment: Mapping[str, Any], rounds: int) -> str:
    """The whole report."""
    head = [
        "# The paper's tables, computed",
        f"Times on {hardware_of(environment)}, torch {environment['torch']}, median of {rounds} "
        f'{"measurement" if rounds == 1 else "measurements"}, interleaved. Columns named "paper" are the paper\'s '
        "(arXiv 2303.14651) or its released code's; all others are computed or measured by "
        "`python scripts/paper_tables.py`.",
    ]
    return "\n\n".join([*head, *(table.markdown() for table in tables)]) + "\n"
