"""The command of the web demo: `yoso demo` and `scripts/demo_app.py`."""

import argparse
import os
import socket
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from ..inference import MissingPackageError, YosoError, default_checkpoint, demo_photo
from .results import load_predictors
from .space import write_space

DESCRIPTION = """Serves a web page that segments photos, from a file or the webcam, or writes it as a Hugging Face Space
(--space). Nothing is loaded from the internet."""

PORT = 7860
MAX_UPLOAD = "50mb"
EXIT_ERROR = 2


def parse_arguments(arguments: Sequence[str] | None, prog: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=prog, description=DESCRIPTION)
    parser.add_argument(
        "--checkpoint",
        nargs="+",
        metavar="FOLDER",
        help="Models to choose from; by default the small one that comes with the package.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0: reachable from other machines (%(default)s).")
    parser.add_argument("--port", type=int, default=PORT, help="(%(default)s)")
    parser.add_argument("--device", help="Such as cpu or cuda:0; by default the GPU if there is one.")
    parser.add_argument("--space", type=Path, metavar="FOLDER", help="Write a Space into this new folder instead.")
    parser.add_argument("--debug", action="store_true", help="Show the traceback of an error.")
    return parser.parse_args(arguments)


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> None:
    """Runs the command, called `prog`, with the arguments `argv`; by default those of this process."""
    arguments = parse_arguments(argv, prog)
    try:
        checkpoints = arguments.checkpoint or [str(default_checkpoint())]
        if arguments.space:
            write_space(arguments.space, checkpoints, [demo_photo()])
            print(f"Wrote {arguments.space}. Upload it: hf upload USER/NAME {arguments.space} . --repo-type space")
        else:
            serve(arguments, checkpoints)
    except (YosoError, OSError, ValueError, RuntimeError) as error:
        if arguments.debug:
            traceback.print_exc()
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(EXIT_ERROR) from None


def serve(arguments: argparse.Namespace, checkpoints: Sequence[str]) -> None:
    """Loads the checkpoints and answers until Ctrl-C."""
    check_address(arguments.host, arguments.port)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        from .app import build_app
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"The web demo needs the package {error.name}: pip install 'transformers-yoso[demo]'"
        ) from error
    from transformers.utils import logging

    logging.disable_progress_bar()
    predictors = load_predictors(checkpoints, arguments.device)
    app = build_app(predictors, [demo_photo()])
    app.launch(
        server_name=arguments.host,
        server_port=arguments.port,
        max_file_size=MAX_UPLOAD,
        footer_links=[],
        quiet=True,
        prevent_thread_lock=True,
    )
    print(f"Serving {', '.join(predictors)} at http://{arguments.host}:{arguments.port} (Ctrl-C ends it)", flush=True)
    app.block_thread()


def check_address(host: str, port: int) -> None:
    """
    Finds out before the models are loaded.

    Raises:
        YosoError: the port is in use or not allowed, or the host is not one of this machine.
    """
    try:
        with socket.create_server((host, port)):
            pass
    except (OSError, OverflowError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else error
        raise YosoError(f"Cannot listen on {host}:{port} ({reason}); choose another --port or --host.") from error
