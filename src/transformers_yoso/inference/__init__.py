"""From photos to results: the predictor, what it returns, and files in common formats."""

from .errors import (
    CameraError,
    CheckpointError,
    ImageReadError,
    MissingCodecError,
    MissingFileError,
    MissingPackageError,
    OutputError,
    VideoReadError,
    YosoError,
)
from .packaged_files import default_checkpoint, demo_photo
from .prediction import CocoPanoptic, FailedPrediction, Prediction, Segment
from .prediction_stream import PredictionStream
from .predictor import YosoPredictor
from .subtasks import SUBTASKS
from .writers import CocoPanopticWriter, RleLinesWriter

__all__ = [
    "SUBTASKS",
    "CameraError",
    "CheckpointError",
    "CocoPanoptic",
    "CocoPanopticWriter",
    "FailedPrediction",
    "ImageReadError",
    "MissingCodecError",
    "MissingFileError",
    "MissingPackageError",
    "OutputError",
    "Prediction",
    "PredictionStream",
    "RleLinesWriter",
    "Segment",
    "VideoReadError",
    "YosoError",
    "YosoPredictor",
    "default_checkpoint",
    "demo_photo",
]
