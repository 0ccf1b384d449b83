"""Command-line arguments of training, named as in Transformers' example scripts."""

from dataclasses import asdict, dataclass, field
from typing import Any

from .schedules import SCHEDULES


@dataclass
class ModelArguments:
    """Which network is trained."""

    model_name_or_path: str | None = field(
        default=None,
        metadata={"help": "YOSO checkpoint to start from; another number of classes gets a new classifier."},
    )
    backbone: str = field(
        default="resnet50", metadata={"help": "timm backbone of a new model (without --model_name_or_path)."}
    )
    backbone_weights: str | None = field(
        default=None, metadata={"help": "Safetensors file with timm weights of the backbone."}
    )
    train_backbone_batch_norm: bool = field(
        default=False, metadata={"help": "Train the backbone's batch norm; it is frozen otherwise."}
    )
    frozen_stages: int = field(
        default=0, metadata={"help": "First feature levels of the backbone that are not trained, with the stem (0-4)."}
    )
    pyramid_channels: list[int] | None = field(
        default=None,
        metadata={"help": "Widths of the pyramid's 4 levels; half of the backbone's channels if not given."},
    )
    aggregation_dim: int = field(default=128, metadata={"help": "Channels of the aggregated feature map."})
    hidden_dim: int = field(default=256, metadata={"help": "Channels of the feature map and of the kernels."})
    feedforward_dim: int = field(default=2048, metadata={"help": "Width of the decoder's feed-forward networks."})
    num_queries: int = field(
        default=100, metadata={"help": "Proposal kernels: the largest number of segments in a photo."}
    )
    temperature: float = field(default=0.05, metadata={"help": "Divisor of the class logits."})
    train_num_points: int | None = field(
        default=None, metadata={"help": "Points a mask in matching and losses; the model's own if not given."}
    )
    image_mean: list[float] | None = field(
        default=None, metadata={"help": "Per channel in [0, 1]; timm's value for the backbone if not given."}
    )
    image_std: list[float] | None = field(
        default=None, metadata={"help": "Per channel in [0, 1]; timm's value for the backbone if not given."}
    )
    object_threshold: float = field(
        default=0.5, metadata={"help": "Least class probability of a panoptic segment, saved with the processor."}
    )
    overlap_threshold: float = field(
        default=0.8, metadata={"help": "Least visible share of a panoptic segment, saved with the processor."}
    )


@dataclass
class DataArguments:
    """Which photos are trained on and how they are scaled."""

    dataset_dir: str = field(
        default=None,
        metadata={
            "help": "Folder in COCO panoptic form: SPLIT/, panoptic_SPLIT/ and panoptic_SPLIT.json.",
            "required": True,
        },
    )
    train_split: str = field(default="train", metadata={"help": "Split that is trained on."})
    validation_split: str = field(default="val", metadata={"help": "Split that is evaluated on."})
    image_size: int = field(default=1024, metadata={"help": "Side of the training crop in pixels."})
    scale_range: list[float] = field(
        default_factory=lambda: [0.1, 2.0],
        metadata={"help": "Smallest and largest scale of the photo relative to the crop."},
    )
    color_distortion: bool = field(default=False, metadata={"help": "Vary brightness, contrast, saturation and hue."})
    validation_size: list[int] = field(
        default_factory=lambda: [800, 1333], metadata={"help": "Shortest and longest edge in evaluation; saved."}
    )


@dataclass
class OptimizationArguments:
    """How long and how the weights move, and what is written."""

    output_dir: str = field(
        default=None, metadata={"help": "Folder of checkpoints, log and final model.", "required": True}
    )
    max_train_steps: int = field(default=10_000, metadata={"help": "Optimiser steps."})
    per_device_train_batch_size: int = field(default=8, metadata={"help": "Photos per process and forward pass."})
    gradient_accumulation_steps: int = field(default=1, metadata={"help": "Forward passes per optimiser step."})
    learning_rate: float = field(
        default=1e-4, metadata={"help": "Highest learning rate of everything but the backbone."}
    )
    backbone_multiplier: float = field(default=0.1, metadata={"help": "Factor on the learning rate of the backbone."})
    weight_decay: float = field(default=0.05, metadata={"help": "AdamW weight decay; norm layers have none."})
    max_grad_norm: float = field(
        default=0.01, metadata={"help": "The whole model's gradient is clipped to this norm."}
    )
    lr_scheduler_type: str = field(
        default="poly", metadata={"help": "Learning rate schedule.", "choices": list(SCHEDULES)}
    )
    lr_warmup_steps: int = field(default=10, metadata={"help": "Steps of linear warm-up."})
    lr_milestones: list[int] = field(
        default_factory=list, metadata={"help": "Steps at which the step schedule multiplies by 0.1."}
    )
    ema_decay: float | None = field(
        default=None, metadata={"help": "Evaluate and save a moving average of the weights, for example with 0.999."}
    )
    mixed_precision: str = field(
        default="no", metadata={"help": "Precision of the forward pass.", "choices": ["no", "bf16", "fp16"]}
    )
    use_cpu: bool = field(default=False, metadata={"help": "Train on the CPU even if there is a GPU."})
    seed: int = field(default=0, metadata={"help": "Seed of weights, order, augmentation and loss points."})
    dataloader_num_workers: int = field(default=0, metadata={"help": "Processes that decode and augment photos."})
    logging_steps: int = field(default=50, metadata={"help": "Steps between log lines."})
    eval_steps: int = field(
        default=1000, metadata={"help": "Steps between evaluations; the best by PQ is kept in OUTPUT_DIR/best."}
    )
    checkpointing_steps: int = field(default=500, metadata={"help": "Steps between checkpoints to resume from."})
    checkpoints_total_limit: int = field(default=2, metadata={"help": "Number of such checkpoints that are kept."})
    resume_from_checkpoint: str | None = field(
        default=None, metadata={"help": "`latest` (starts anew if there is none) or a checkpoint folder."}
    )
    save_half_precision: bool = field(
        default=False, metadata={"help": "Write the weights of best and final model in float16."}
    )

    def __post_init__(self):
        positive = (
            *("max_train_steps", "per_device_train_batch_size", "gradient_accumulation_steps", "learning_rate"),
            *("max_grad_norm", "logging_steps", "eval_steps", "checkpointing_steps", "checkpoints_total_limit"),
        )
        for name in positive:
            if getattr(self, name) <= 0:
                raise ValueError(f"`{name}` must be greater than 0, got {getattr(self, name)}.")


@dataclass
class TrainingRun:
    """All arguments of one run."""

    model: ModelArguments
    data: DataArguments
    optimization: OptimizationArguments

    _FREE_ON_RESUME = (
        *("output_dir", "resume_from_checkpoint", "dataset_dir", "use_cpu", "dataloader_num_workers"),
        *("logging_steps", "eval_steps", "checkpointing_steps", "checkpoints_total_limit", "save_half_precision"),
        *("max_train_steps", "model_name_or_path", "backbone_weights", "object_threshold", "overlap_threshold"),
        *("validation_split", "validation_size"),
    )

    def as_dict(self) -> dict[str, Any]:
        """All arguments in one flat dict."""
        return {**asdict(self.model), **asdict(self.data), **asdict(self.optimization)}

    def recipe(self) -> dict[str, Any]:
        """The arguments on which the weights depend: those that a resumed run must share."""
        return {name: value for name, value in self.as_dict().items() if name not in self._FREE_ON_RESUME}
