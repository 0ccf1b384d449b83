"""Checkpoint folders that are whole or absent: written beside, synced, renamed; the oldest are rotated away."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
_UNFINISHED = ".unfinished-"
_REPLACED = ".replaced-"


def checkpoint_folder(output_dir: Path, step: int) -> Path:
    """Folder of the checkpoint after optimiser step `step`; the number is padded so that names sort by step."""
    return output_dir / f"checkpoint-{step:08d}"


def list_checkpoints(output_dir: Path) -> list[Path]:
    """Finished checkpoints, oldest first."""
    if not output_dir.is_dir():
        return []
    return sorted((path for path in output_dir.iterdir() if _CHECKPOINT.fullmatch(path.name)), key=checkpoint_step)


def checkpoint_step(folder: Path) -> int:
    """Optimiser step of a checkpoint folder."""
    match = _CHECKPOINT.fullmatch(folder.name)
    if match is None:
        raise ValueError(f"{folder}: not a training checkpoint; its name should be checkpoint-STEP.")
    return int(match[1])


def resolve_checkpoint(output_dir: Path, wanted: str) -> Path | None:
    """
    The checkpoint to resume from.

    Args:
        output_dir: of the run.
        wanted: `latest` (None if there is none yet) or a checkpoint folder.

    Raises:
        FileNotFoundError: the named folder does not exist.
    """
    if wanted == "latest":
        checkpoints = list_checkpoints(output_dir)
        return checkpoints[-1] if checkpoints else None
    folder = Path(wanted)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such checkpoint folder to resume from.")
    return folder


def unfinished_folder(target: Path) -> Path:
    """Where `target` is written before `finish_folder` gives it its name."""
    return target.with_name(_UNFINISHED + target.name)


def make_empty(folder: Path) -> None:
    """Makes `folder`, or empties it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def finish_folder(unfinished: Path, target: Path) -> None:
    """Syncs `unfinished` to the disk and renames it to `target`, which is replaced if it exists."""
    for path in sorted(unfinished.rglob("*")):
        _sync(path)
    _sync(unfinished)
    replaced = target.with_name(_REPLACED + target.name)
    shutil.rmtree(replaced, ignore_errors=True)
    if target.exists():
        target.rename(replaced)
    unfinished.rename(target)
    _sync(target.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def write_folder(target: Path, write: Callable[[Path], None]) -> None:
    """Lets `write` fill a folder that appears as `target` only when all of it is on the disk."""
    unfinished = unfinished_folder(target)
    make_empty(unfinished)
    write(unfinished)
    finish_folder(unfinished, target)


def clean_up(output_dir: Path) -> None:
    """Mends what a killed run left: removes unfinished folders, and puts back one that was about to be replaced."""
    if not output_dir.is_dir():
        return
    for path in list(output_dir.iterdir()):
        if path.name.startswith(_UNFINISHED):
            shutil.rmtree(path)
        elif path.name.startswith(_REPLACED):
            original = path.with_name(path.name.removeprefix(_REPLACED))
            if original.exists():
                shutil.rmtree(path)
            else:
                path.rename(original)


def rotate_checkpoints(output_dir: Path, limit: int) -> None:
    """Removes all but the newest `limit` checkpoints."""
    for folder in list_checkpoints(output_dir)[:-limit]:
        # renamed first: a removal cut short must not leave a checkpoint that looks whole
        doomed = unfinished_folder(folder)
        folder.rename(doomed)
        shutil.rmtree(doomed)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
