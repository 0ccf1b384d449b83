"""`python -m transformers_yoso_cli`, for example under `accelerate launch -m`."""

from .app import app

app(prog_name="yoso")
