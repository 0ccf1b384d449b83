"""The JSON file and the photo folder that COCO's panoptic and instance formats share."""

import json
from pathlib import Path
from typing import Any


def read_coco_json(file: Path) -> dict[str, Any]:
    """
    Reads an annotation file and checks its outer form.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no JSON, or one of `images`, `annotations`, `categories` is missing or no list.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such annotation file; {shown_content(file.parent)}.")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: not valid JSON ({error}).") from error
    keys = ("images", "annotations", "categories")
    missing = [key for key in keys if not isinstance(content, dict) or not isinstance(content.get(key), list)]
    if missing:
        raise ValueError(f"{file}: lacks {missing}; COCO files have the lists `images`, `annotations`, `categories`.")
    return content


def require_folder(folder: Path, source: Path) -> None:
    """Raises `FileNotFoundError` if `folder`, which belongs to `source`, does not exist; says what is there instead."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder (needed for {source}); {shown_content(folder.parent)}.")


def shown_content(folder: Path) -> str:
    """What lies next to a missing path, for a message: `FOLDER has: a, b`, of the nearest folder that exists."""
    present = next(place for place in (folder, *folder.parents) if place.is_dir())
    return f"{present} has: {first_names(present)}"


def first_names(folder: Path) -> str:
    """The first ten names in a folder, for a message."""
    names = sorted(path.name for path in folder.iterdir())
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "") or "nothing"


def require_files(folder: Path, names: list[str], source: Path) -> None:
    """Raises `FileNotFoundError` that counts and names what `source` lists and `folder` lacks."""
    if missing := [name for name in names if not (folder / name).is_file()]:
        shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise FileNotFoundError(
            f"{folder}: {len(missing)} of {len(names)} files named in {source} are missing: {shown}"
        )
