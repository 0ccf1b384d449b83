"""PyAV (FFmpeg), imported when it is first needed."""

from types import ModuleType

from ..inference.errors import MissingPackageError


def import_av() -> ModuleType:
    """The module `av`.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise MissingPackageError("Video needs PyAV: pip install 'transformers-yoso[video]'") from error
    av.logging.set_level(av.logging.PANIC)
    return av
