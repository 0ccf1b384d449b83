"""Reads an official checkpoint without running any code it may carry."""

import hashlib
import os
import pickle
import pickletools
import re
import tarfile
import urllib.error
import zipfile
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

LEGACY_HEADER_PICKLES = 3
"""Pickles ahead of the content in files of PyTorch before 1.6: magic number, protocol and system."""

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
    except (OSError, MemoryError):
        raise
    except Exception as error:  # damaged bytes make torch fail in many ways, and its advice is to run the code
        if _needs_code(path, refused=isinstance(error, pickle.UnpicklingError)):
            raise ValueError(_refusal(path, str(error))) from None
        raise ValueError(f"{str(path)!r} is no PyTorch checkpoint or was cut off. {DAMAGED_HINT}") from None

    state_dict = checkpoint.get("model", checkpoint) if isinstance(checkpoint, dict) else checkpoint
    if not isinstance(state_dict, dict) or not state_dict:
        raise ValueError(f"{str(path)!r} holds no state dict, neither under the key 'model' nor bare.")
    return {name: _as_tensor(name, value) for name, value in state_dict.items()}


def _needs_code(path: str | os.PathLike, refused: bool) -> bool:
    """Whether an unloadable file is whole and carries code, and not damaged. Nothing of it is unpickled.

    Args:
        path: The file.
        refused: Whether `torch.load` failed while it unpickled.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return refused or any(name.endswith("/constants.pkl") for name in archive.namelist())  # TorchScript
    if tarfile.is_tarfile(path):  # of PyTorch before 0.1.10
        return True
    return refused and _has_globals(path)


def _has_globals(path: str | os.PathLike) -> bool:
    """Whether one of the first pickles of a file is whole and names a class or function."""
    with open(path, "rb") as file:
        try:
            for _ in range(LEGACY_HEADER_PICKLES + 1):
                operations = {operation.name for operation, _, _ in pickletools.genops(file)}
                if operations & {"GLOBAL", "STACK_GLOBAL", "INST"}:
                    return True
        except ValueError:  # cut off, or no pickle
            pass
    return False


def _refusal(path: str | os.PathLike, reason: str) -> str:
    needed = re.search(r"GLOBAL ([\w.]+)", reason)
    return (
        f"{str(path)!r} needs code to be unpickled{f' (`{needed[1]}`)' if needed else ''}; it was refused and nothing "
        "of it ran; use the authors' release file."
    )


def _as_tensor(name: str, value: object) -> Tensor:
    if isinstance(value, np.ndarray) and value.dtype != object:
        value = torch.from_numpy(value.copy())
    if not isinstance(name, str) or not isinstance(value, Tensor):
        raise ValueError(f"The checkpoint's entry {name!r} is not a tensor but a {type(value).__name__}.")
    return value
