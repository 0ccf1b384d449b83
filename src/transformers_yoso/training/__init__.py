"""Training and evaluation of YOSO on Accelerate."""

from ..evaluation import evaluate_panoptic, format_table
from .arguments import DataArguments, ModelArguments, OptimizationArguments, TrainingRun
from .model_setup import build_image_processor, build_model, save_model_folder
from .trainer import PanopticTrainer, TrainingDiverged

__all__ = [
    "DataArguments",
    "ModelArguments",
    "OptimizationArguments",
    "PanopticTrainer",
    "TrainingDiverged",
    "TrainingRun",
    "build_image_processor",
    "build_model",
    "evaluate_panoptic",
    "format_table",
    "save_model_folder",
]
