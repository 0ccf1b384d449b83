"""A model on a dataset: scores, tables, predictions as files, picture sheets and error analysis."""

from .coco_panoptic_writer import CocoPanopticWriter
from .evaluate_model import evaluate_model, evaluate_panoptic
from .model_loading import load_for_evaluation
from .prediction import SUBTASKS, Prediction, predict_dataset
from .tables import format_table

__all__ = [
    "SUBTASKS",
    "CocoPanopticWriter",
    "Prediction",
    "evaluate_model",
    "evaluate_panoptic",
    "format_table",
    "load_for_evaluation",
    "predict_dataset",
]
