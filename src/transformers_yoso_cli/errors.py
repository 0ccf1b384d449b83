"""What goes wrong, in one line."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]

EXIT_SOME_FAILED = 1
EXIT_ERROR = 2
EXIT_INTERRUPTED = 130


@contextmanager
def errors_in_one_line(debug: bool) -> Iterator[None]:
    """Turns exceptions into a line on stderr, with `debug` behind the traceback, and exit code 2 (130 for Ctrl-C)."""
    try:
        yield
    except typer.Exit:
        raise
    except SystemExit as stop:
        if debug and stop.__context__ is not None:
            traceback.print_exception(stop.__context__)
        raise
    except KeyboardInterrupt:
        typer.echo("stopped", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except Exception as error:
        if debug:
            traceback.print_exc()
        typer.echo(f"error: {describe(error)}", err=True)
        raise typer.Exit(EXIT_ERROR) from error


def describe(error: Exception) -> str:
    """The message on one line; errors that are not about what the user gave also show their kind."""
    message = " ".join(str(error).split())
    if isinstance(error, (ValueError, OSError, ImportError)):
        return message or type(error).__name__
    return f"{type(error).__name__}: {message} (--debug shows where)"
