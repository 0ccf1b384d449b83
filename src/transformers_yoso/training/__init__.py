"""Training of YOSO on Accelerate."""

from ..evaluation import evaluate_panoptic, format_table
from .arguments import DataArguments, ModelArguments, OptimizationArguments, OutputArguments, TrainingRun
from .checkpointing import CheckpointWriteError
from .command_line import load_recipe, parse_arguments, recipe_names
from .data_loading import open_splits
from .divergence import TrainingDiverged
from .model_setup import build_image_processor, build_model, save_model_folder
from .shipping import push_best_model
from .trainer import PanopticTrainer

__all__ = [
    "CheckpointWriteError",
    "DataArguments",
    "ModelArguments",
    "OptimizationArguments",
    "OutputArguments",
    "PanopticTrainer",
    "TrainingDiverged",
    "TrainingRun",
    "build_image_processor",
    "build_model",
    "evaluate_panoptic",
    "format_table",
    "load_recipe",
    "open_splits",
    "parse_arguments",
    "push_best_model",
    "recipe_names",
    "save_model_folder",
]
