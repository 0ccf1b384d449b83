"""The command `yoso` and its subcommands."""

from typing import Annotated

import typer

from .info import info
from .library_commands import add_library_commands
from .predict import predict


def with_dashes(name: str) -> str:
    """Options may be spelled with underscores too, as Transformers' scripts have them."""
    return name.replace("_", "-")


app = typer.Typer(
    name="yoso",
    help="YOSO, real-time panoptic segmentation: `yoso predict photo.jpg`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "token_normalize_func": with_dashes},
)
app.command()(predict)
add_library_commands(app)
app.command()(info)


def print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"transformers-yoso {version('transformers-yoso')}")
        raise typer.Exit


@app.callback()
def yoso(
    show_version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """What all subcommands share."""
