"""Checkpoint folders that are whole or absent: written beside, synced, renamed; the oldest are rotated away."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import gather_object
from safetensors import SafetensorError

_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
_UNFINISHED = ".unfinished-"
_REPLACED = ".replaced-"
_MEBIBYTE = 2**20
# How a full disk shows: torch.save raises RuntimeError.
_WRITE_ERRORS = (OSError, RuntimeError, SafetensorError)


class CheckpointWriteError(OSError):
    """A folder could not be written, for example because the disk is full; what was there before is still there."""


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


def write_folder(target: Path, write: Callable[[Path], None], accelerator: Accelerator | None = None) -> None:
    """
    Lets `write` fill a folder that appears as `target` only when all of it is on the disk.

    Args:
        target: replaced if it exists.
        write: fills the folder it is given.
        accelerator: of a run whose processes all write into the folder (all must call this); without it only the
            caller writes.

    Raises:
        CheckpointWriteError: in every process, if any could not write; the old `target` is still there.
    """
    unfinished = target.with_name(_UNFINISHED + target.name)
    leads = accelerator is None or accelerator.is_main_process
    try:
        _attempt_together(target, lambda: _make_empty(unfinished) if leads else None, accelerator)
        _attempt_together(target, lambda: write(unfinished), accelerator)
        _attempt_together(target, lambda: _finish_folder(unfinished, target) if leads else None, accelerator)
    except CheckpointWriteError:
        if leads:
            shutil.rmtree(unfinished, ignore_errors=True)
        raise


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
        doomed = folder.with_name(_UNFINISHED + folder.name)
        folder.rename(doomed)
        shutil.rmtree(doomed)


def move_files(source: Path, target: Path) -> None:
    """Moves all files of the flat folder `source` into `target`, each at once, and removes `source`."""
    for path in sorted(source.iterdir()):
        path.replace(target / path.name)
    source.rmdir()


@contextmanager
def explained_write_errors(target: Path) -> Iterator[None]:
    """Turns what a full disk raises into a `CheckpointWriteError` that names `target` and the space that is left."""
    try:
        yield
    except _WRITE_ERRORS as error:
        raise _write_error(target, f"{type(error).__name__}: {error}") from error


def _attempt_together(target: Path, action: Callable[[], None], accelerator: Accelerator | None) -> None:
    """Runs `action` and, with all processes, finds out whether it worked everywhere."""
    problem, cause = None, None
    try:
        action()
    except _WRITE_ERRORS as error:
        problem, cause = f"{type(error).__name__}: {error}", error
    problems = [problem] if accelerator is None else gather_object([problem])
    failed = [text for text in problems if text is not None]
    if failed:
        raise _write_error(target, failed[0]) from cause


def _write_error(target: Path, problem: str) -> CheckpointWriteError:
    return CheckpointWriteError(
        f"{target} could not be written ({problem}). {_space(target)} Nothing that was saved before is lost. "
        "Make room or choose another disk, then continue with --resume_from_checkpoint latest."
    )


def _space(target: Path) -> str:
    present = next(folder for folder in target.absolute().parents if folder.exists())
    usage = shutil.disk_usage(present)
    text = f"The disk of {present} has {usage.free / _MEBIBYTE:.1f} of {usage.total / _MEBIBYTE:.1f} MiB free."
    checkpoints = list_checkpoints(target.parent)
    if checkpoints:
        size = sum(file.stat().st_size for file in checkpoints[-1].rglob("*") if file.is_file())
        text += f" The last good checkpoint, {checkpoints[-1].name}, takes {size / _MEBIBYTE:.1f} MiB."
    return text


def _make_empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _finish_folder(unfinished: Path, target: Path) -> None:
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


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
