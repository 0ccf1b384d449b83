"""Reads an official checkpoint without running any code it may carry."""

import hashlib
import os
import pickle
import re
import urllib.error
from pathlib import Path
from urllib.parse import urlparse

import numpy as np
import torch
from torch import Tensor

# detectron2 files may hold arrays in place of tensors; these rebuild numeric arrays and call nothing else.
_array_rebuild = np.zeros(0).__reduce__()[0]
_scalar_rebuild = np.float64(0).__reduce__()[0]
NUMERIC_ARRAY_GLOBALS = [
    *((_array_rebuild, f"{module}.multiarray._reconstruct") for module in ("numpy.core", "numpy._core")),
    *((_scalar_rebuild, f"{module}.multiarray.scalar") for module in ("numpy.core", "numpy._core")),
    np.ndarray,
    np.dtype,
    *(type(np.dtype(name)) for name in ("float16", "float32", "float64", "int32", "int64", "bool")),
]

DAMAGED_HINT = "If it is a download that was cut off, delete it and try again."


def fetch_checkpoint(source: str | os.PathLike) -> Path:
    """Local path of a checkpoint given as a path or an http(s) address.

    A download shows a progress bar and is kept in `torch.hub`'s directory, so that it happens once.

    Raises:
        FileNotFoundError: if a local path is not a file.
        ConnectionError: if the download fails, for example offline.
    """
    url = urlparse(os.fspath(source))
    if url.scheme not in ("http", "https"):
        path = Path(source)
        if not path.is_file():
            raise FileNotFoundError(f"No checkpoint file at {str(path)!r}.")
        return path

    address_hash = hashlib.sha256(os.fspath(source).encode()).hexdigest()[:8]
    path = Path(torch.hub.get_dir(), "checkpoints", f"{address_hash}-{Path(url.path).name}")
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(os.fspath(source), str(path), progress=True)
        except (urllib.error.URLError, OSError) as error:
            raise ConnectionError(
                f"Could not download {source}: {error}. Offline? Fetch the file on another machine and give its path."
            ) from error
    return path


def load_official_state_dict(path: str | os.PathLike) -> dict[str, Tensor]:
    """State dict of a detectron2 checkpoint: a dict with the key `model`, or the bare state dict.

    Only tensors, numeric arrays and plain Python containers are read (`torch.load(weights_only=True)`).

    Args:
        path: A file written by `torch.save`.

    Returns:
        `dict[str, Tensor]`: tensors on the CPU by their official names.

    Raises:
        ValueError: if the file needs code to be unpickled (it is refused, and nothing of it runs), is not a
            readable `torch.save` file, or holds anything but a state dict.
    """
    try:
        with torch.serialization.safe_globals(NUMERIC_ARRAY_GLOBALS):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(_refusal(path, str(error))) from None
    except (RuntimeError, EOFError, ValueError, KeyError, AttributeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"{str(path)!r} is not a readable `torch.save` checkpoint: {reason} {DAMAGED_HINT}"
        ) from error

    state_dict = checkpoint.get("model", checkpoint) if isinstance(checkpoint, dict) else checkpoint
    if not isinstance(state_dict, dict) or not state_dict:
        raise ValueError(f"{str(path)!r} holds no state dict, neither under the key 'model' nor bare.")
    return {name: _as_tensor(name, value) for name, value in state_dict.items()}


def _refusal(path: str | os.PathLike, reason: str) -> str:
    needed = re.search(r"GLOBAL ([\w.]+)", reason)
    if needed is None:
        return f"{str(path)!r} is not a `torch.save` checkpoint of tensors. Refused; nothing of it ran. {DAMAGED_HINT}"
    return (
        f"{str(path)!r} needs `{needed[1]}` to be unpickled, and a checkpoint of weights needs no code. Refused; "
        "nothing of it ran. Use the file of the authors' release, or save its state dict as plain tensors."
    )


def _as_tensor(name: str, value: object) -> Tensor:
    if isinstance(value, np.ndarray) and value.dtype != object:
        value = torch.from_numpy(value.copy())
    if not isinstance(name, str) or not isinstance(value, Tensor):
        raise ValueError(f"The checkpoint's entry {name!r} is not a tensor but a {type(value).__name__}.")
    return value
