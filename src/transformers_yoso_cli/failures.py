"""Inputs that gave no result: a warning at once, a list at the end."""

import traceback

import typer

from transformers_yoso.inference import YosoError

from .messages import warn


class Failures:
    """
    Collects failures of a run.

    Args:
        num_inputs: of the run; a single one needs no list and no warning before its error.
        debug: whether to show the traceback of each on stderr.
    """

    def __init__(self, num_inputs: int, debug: bool):
        self.num_inputs, self.debug = num_inputs, debug
        self._messages: list[str] = []

    def add(self, source: str, error: YosoError) -> None:
        """Notes an input with what is wrong with it."""
        if self.debug:
            traceback.print_exception(error)
        text = " ".join(str(error).split())
        self._messages.append(text if source in text else f"{source}: {text}")
        if self.num_inputs > 1:
            warn(self._messages[-1])

    def __len__(self) -> int:
        return len(self._messages)

    def report(self) -> None:
        """Lists them on stderr."""
        if self.num_inputs > 1 and self._messages:
            lines = [f"error: {len(self)} of {self.num_inputs} inputs failed:", *self._messages]
            typer.echo("\n  ".join(lines), err=True)
        elif self._messages:
            typer.echo(f"error: {self._messages[0]}", err=True)
