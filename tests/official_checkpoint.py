"""Files as the authors released them: true names and shapes, small random weights."""

import ast
from pathlib import Path

import torch


def write_official_checkpoint(dataset: str, reference: Path, file: Path) -> None:
    """A file with the true names and shapes, and small random weights."""
    torch.manual_seed(0)
    rows = (line.split("\t") for line in (reference / f"official_keys_r50_{dataset}.txt").read_text().splitlines())
    tensors = {
        key: (0.02 * torch.rand(ast.literal_eval(shape))).to(getattr(torch, dtype)) for key, shape, dtype, _ in rows
    }
    torch.save({"model": tensors}, file)
