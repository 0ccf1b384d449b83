"""The small checkpoint and the photo that come with the package."""

from pathlib import Path

from .errors import MissingFileError

DEFAULT_CHECKPOINT = "checkpoints/yoso-lite0-facade"
DEMO_PHOTO = "assets/facade_demo.jpg"

PACKAGE = Path(__file__).resolve().parents[1]
PLACES = (PACKAGE, PACKAGE.parents[1])
"""In the wheel they lie inside of the package, in the repository at its root."""


def default_checkpoint() -> Path:
    """Folder of a small YOSO trained on photos of building facades.

    Raises:
        MissingFileError: neither an installed package nor a whole repository.
    """
    return packaged(DEFAULT_CHECKPOINT)


def demo_photo() -> Path:
    """A photo of a facade that the default checkpoint was not trained on; see its neighbour README.md for the licence.

    Raises:
        MissingFileError: neither an installed package nor a whole repository.
    """
    return packaged(DEMO_PHOTO)


def packaged(name: str) -> Path:
    """Path of what lies in the repository under `name`."""
    for place in PLACES:
        if (place / name).exists():
            return place / name
    raise MissingFileError(f"{name} is not there: the package is not installed as a whole; name another one.")
