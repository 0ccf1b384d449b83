"""From the arguments of `yoso predict` to photos, videos and cameras."""

import glob
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from transformers_yoso.inference import MissingFileError
from transformers_yoso.inference.photo_reading import is_photo
from transformers_yoso.video import is_video_file


class Inputs(NamedTuple):
    """Paths and URLs of photos; paths and URLs of videos, and numbers of cameras."""

    photos: list[str]
    videos: list[str | int]


def find_inputs(arguments: Sequence[str], stdin: Iterable[str]) -> Inputs:
    """
    Sorts inputs by kind, each once. A file that is not there is kept: it is reported at its turn.

    Args:
        arguments: files, folders (what lies directly in them), globs, URLs, numbers of cameras; "-" stands for the
            paths in `stdin`, one a line.

    Raises:
        MissingFileError: a folder without photos or videos, a glob that matches nothing, an empty list.
    """
    found: dict[str | int, None] = {}
    for argument in arguments:
        found.update(dict.fromkeys(list_paths(stdin) if argument == "-" else expand(argument)))
    inputs = Inputs([], [])
    for source in found:
        if isinstance(source, int) or is_video(source):
            inputs.videos.append(source)
        else:
            inputs.photos.append(source)
    return inputs


def list_paths(lines: Iterable[str]) -> Iterator[str]:
    """The paths of a list, with folders expanded."""
    paths = [line.strip() for line in lines if line.strip()]
    if not paths:
        raise MissingFileError("The list of paths on stdin is empty.")
    for path in paths:
        yield from files_in(path) if Path(path).is_dir() else [path]


def expand(argument: str) -> list[str | int]:
    """What one argument stands for."""
    if Path(argument).is_dir():
        return files_in(argument)
    if Path(argument).exists() or "://" in argument:
        return [argument]
    if argument.isdecimal():
        return [int(argument)]
    if glob.has_magic(argument):
        matches = sorted(path for path in glob.glob(argument, recursive=True) if Path(path).is_file())
        if not matches:
            raise MissingFileError(f"No file matches {argument}.")
        return matches
    return [argument]


def files_in(folder: str) -> list[str]:
    """Photos and videos directly in a folder, by name."""
    paths = sorted(str(path) for path in Path(folder).iterdir() if path.is_file() and not path.name.startswith("."))
    paths = [path for path in paths if is_video(path) or is_photo(path)]
    if not paths:
        raise MissingFileError(f"There is no photo and no video in the folder {folder}.")
    return paths


def is_video(source: str) -> bool:
    """Whether a path has the ending of a video, or a URL is a live stream."""
    return is_video_file(source) or source.startswith(("rtsp:", "rtmp:", "udp:", "rtp:", "srt:"))
