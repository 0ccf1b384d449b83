"""What can go wrong with files and devices. Every message is one line meant for a person."""


class YosoError(Exception):
    """Base class: a program for people prints the message and no traceback."""


class ImageReadError(YosoError, ValueError):
    """Not an image, or a broken one."""


class MissingFileError(YosoError, FileNotFoundError):
    """A photo, video or folder that is not there."""


class VideoReadError(YosoError, ValueError):
    """Not a video, or one without frames."""


class MissingCodecError(YosoError, ValueError):
    """A codec that this FFmpeg does not have."""


class CameraError(YosoError, OSError):
    """A camera that is not there or cannot be opened."""


class OutputError(YosoError, OSError):
    """A file or folder that cannot be written."""


class CheckpointError(YosoError, ValueError, OSError):
    """No folder or model of the Hub, no weights, or another model; `from_pretrained` has both kinds of error for these."""


class MissingPackageError(YosoError, ImportError):
    """An optional package that is not installed."""


def one_line(error: BaseException) -> str:
    """The message of an error of another library, on one line and without its full stop."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
