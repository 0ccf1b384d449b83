"""The web demo in a process of its own."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PHOTO = ROOT / "assets" / "facade_demo.jpg"
CHECKPOINT = ROOT / "checkpoints" / "yoso-lite0-facade"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def wait_until_served(url: str, seconds: float = 180) -> str:
    """The page at `url`, as soon as it is there."""
    end = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return answer.read().decode()
        except (urllib.error.URLError, ConnectionError):
            if time.monotonic() > end:
                raise
            time.sleep(0.3)


@contextmanager
def serve_web_demo(*arguments: str) -> Iterator[str]:
    """Runs `scripts/demo_app.py` and gives its address."""
    port = free_port()
    command = [sys.executable, str(ROOT / "scripts" / "demo_app.py"), "--port", str(port), *arguments]
    with subprocess.Popen(command, env=os.environ | {"HF_HUB_OFFLINE": "1"}) as server:
        try:
            url = f"http://127.0.0.1:{port}/"
            wait_until_served(url)
            yield url
        finally:
            server.terminate()
