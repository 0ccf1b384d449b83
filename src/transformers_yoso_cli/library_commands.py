"""Subcommands whose options are those of the library's own commands, which scripts/ runs as well."""

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import typer

from .errors import Debug, errors_in_one_line


class LibraryCommand(NamedTuple):
    """A subcommand that hands its arguments to `main` of a module, and the extra that this module may need."""

    name: str
    module: str
    extra: str
    help: str


LIBRARY_COMMANDS = (
    LibraryCommand("train", "training.command", "train", "Train, or fine-tune on your own photos."),
    LibraryCommand("evaluate", "evaluation.command", "train", "Score a checkpoint on a dataset: PQ, AP, mIoU."),
    LibraryCommand("check-data", "data.checker.command", "train", "Look for faults in a panoptic dataset."),
    LibraryCommand("convert", "conversion.command", "train", "Convert an official YOSO checkpoint."),
    LibraryCommand("export", "export.command", "export", "Export a checkpoint to ONNX, checked against torch."),
    LibraryCommand("demo", "web_demo.command", "demo", "Serve a web page that segments photos."),
    LibraryCommand("benchmark", "benchmark.command", "benchmark", "Measure speed, memory and agreement."),
)


def add_library_commands(app: typer.Typer) -> None:
    """Adds a subcommand for each; `--help` is answered by the library's command."""
    for command in LIBRARY_COMMANDS:
        add_library_command(app, command)


def add_library_command(app: typer.Typer, command: LibraryCommand) -> None:
    @app.command(
        command.name,
        help=command.help,
        add_help_option=False,
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )
    def run(context: typer.Context, debug: Debug = False) -> None:
        with errors_in_one_line(debug), naming_the_extra(command):
            main = importlib.import_module(f"transformers_yoso.{command.module}").main
            raise typer.Exit(main(with_underscores(context.args), prog=f"yoso {command.name}") or 0)


@contextmanager
def naming_the_extra(command: LibraryCommand) -> Iterator[None]:
    """Says what to install where a package is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ImportError(
            f"`yoso {command.name}` needs the package {error.name}: pip install 'transformers-yoso[{command.extra}]'"
        ) from error


def with_underscores(arguments: Sequence[str]) -> list[str]:
    """`--output-dir` may be written for `--output_dir`, as `yoso predict` has it."""
    spelled = []
    for argument in arguments:
        if argument.startswith("--"):
            name, equals, value = argument[2:].partition("=")
            argument = f"--{name.replace('-', '_')}{equals}{value}"
        spelled.append(argument)
    return spelled
