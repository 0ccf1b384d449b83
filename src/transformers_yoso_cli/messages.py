"""Lines for the user that do not break into a progress bar."""

import sys

from tqdm import tqdm


def say(text: str) -> None:
    """A line on stdout."""
    tqdm.write(text, file=sys.stdout)


def warn(text: str) -> None:
    """A warning on stderr."""
    tqdm.write(f"warning: {text}", file=sys.stderr)
