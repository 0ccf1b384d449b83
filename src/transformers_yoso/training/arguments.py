"""Arguments of a training run, named as in Transformers' example scripts."""

import dataclasses
from dataclasses import asdict, dataclass, field
from typing import Any

from ..models.configuration_yoso import AGGREGATOR_TYPES, ATTENTION_TYPES
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
    aggregator_type: str = field(
        default="cfa",
        metadata={"help": "Convolution-first or interpolation-first aggregation.", "choices": list(AGGREGATOR_TYPES)},
    )
    hidden_dim: int = field(default=256, metadata={"help": "Channels of the feature map and of the kernels."})
    feedforward_dim: int = field(default=2048, metadata={"help": "Width of the decoder's feed-forward networks."})
    num_queries: int = field(
        default=100, metadata={"help": "Proposal kernels: the largest number of segments in a photo."}
    )
    num_stages: int = field(default=2, metadata={"help": "Decoder stages."})
    attention_type: str = field(
        default="sdca",
        metadata={"help": "Attention of kernels over pooled values.", "choices": list(ATTENTION_TYPES)},
    )
    num_attention_blocks: int = field(default=2, metadata={"help": "Blocks of that attention in a stage."})
    dynamic_kernel_size: int = field(default=3, metadata={"help": "Taps of the dynamic convolution."})
    num_class_layers: int = field(default=1, metadata={"help": "Hidden layers of the class branch."})
    num_mask_layers: int = field(default=1, metadata={"help": "Hidden layers of the mask branch."})
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
    object_threshold: float | None = field(
        default=None,
        metadata={
            "help": "Least class probability of a panoptic segment, saved with the processor; if not given that of "
            "`model_name_or_path`, 0.5 for a new model."
        },
    )
    overlap_threshold: float | None = field(
        default=None,
        metadata={
            "help": "Least visible share of a panoptic segment, saved with the processor; if not given that of "
            "`model_name_or_path`, 0.8 for a new model."
        },
    )


@dataclass
class DataArguments:
    """Which photos are trained on and how they are augmented."""

    dataset_name: str | None = field(
        default=None, metadata={"help": "Dataset on the Hub, or a folder that `load_dataset` opens."}
    )
    dataset_config_name: str | None = field(default=None, metadata={"help": "Configuration of --dataset_name."})
    dataset_dir: str | None = field(
        default=None,
        metadata={
            "help": "Local folder: COCO panoptic or instances, `save_to_disk`, parquet files; instead of --dataset_name."
        },
    )
    train_split: str = field(default="train", metadata={"help": "Split that is trained on."})
    validation_split: str = field(default="val", metadata={"help": "Split that is evaluated on."})
    annotation_format: str | None = field(
        default=None, metadata={"help": "Form of the annotations; found out if not given."}
    )
    categories_file: str | None = field(
        default=None, metadata={"help": "JSON with the categories, where the dataset does not say."}
    )
    stuff_category_ids: list[int] | None = field(
        default=None, metadata={"help": "Categories that are stuff, where the dataset is silent."}
    )
    image_column_name: str = field(default="image", metadata={"help": "Column of the photos."})
    annotation_column_name: str | None = field(
        default=None, metadata={"help": "Column of the id maps; `label` or `annotation` by default."}
    )
    segments_info_column_name: str = field(
        default="segments_info", metadata={"help": "Column of the lists of segments."}
    )
    do_reduce_labels: bool = field(default=False, metadata={"help": "Category 0 is void and all others are one less."})
    streaming: bool = field(default=False, metadata={"help": "Read the dataset while training instead of before."})
    shuffle_buffer_size: int = field(
        default=1000, metadata={"help": "Rows that are shuffled together when streaming."}
    )
    image_size: list[int] = field(
        default_factory=lambda: [1024], metadata={"help": "Training crop in pixels: one side, or height and width."}
    )
    scale_range: list[float] | None = field(
        default=None,
        metadata={
            "help": "Large-scale jitter: smallest and largest scale of the photo relative to the crop; default 0.1 2.0."
        },
    )
    shortest_edges: list[int] | None = field(
        default=None, metadata={"help": "Instead of --scale_range: the shortest edge in pixels is drawn from these."}
    )
    longest_edge: int | None = field(
        default=None, metadata={"help": "Cap of the longest edge in pixels, with --shortest_edges."}
    )
    single_category_max_area: float = field(
        default=1.0,
        metadata={
            "help": "Crops in which one category covers more than this share are drawn again; 1 takes every crop."
        },
    )
    horizontal_flip: bool = field(default=True, metadata={"help": "Mirror every other photo."})
    color_distortion: bool = field(default=False, metadata={"help": "Vary brightness, contrast, saturation and hue."})
    validation_size: list[int] = field(
        default_factory=lambda: [800, 1333], metadata={"help": "Shortest and longest edge in evaluation; saved."}
    )

    def __post_init__(self):
        if isinstance(self.image_size, int):
            self.image_size = [self.image_size]
        for name, lengths in (("image_size", (1, 2)), ("validation_size", (2,))):
            value = getattr(self, name)
            if len(value) not in lengths or min(value) < 1:
                raise ValueError(f"`{name}` must be {' or '.join(map(str, lengths))} positive numbers, got {value}.")
        if self.scale_range is not None and self.shortest_edges is not None:
            raise ValueError("Give `scale_range` or `shortest_edges`, not both: they are two ways to scale a photo.")


@dataclass
class OptimizationArguments:
    """How long and how the weights move."""

    max_train_steps: int | None = field(
        default=None, metadata={"help": "Optimiser steps; overrides --num_train_epochs."}
    )
    num_train_epochs: float | None = field(
        default=None, metadata={"help": "Passes over the training split, instead of --max_train_steps."}
    )
    total_train_batch_size: int | None = field(
        default=None,
        metadata={
            "help": "Photos per optimiser step over all processes and accumulated passes; sets --per_device_train_batch_size."
        },
    )
    per_device_train_batch_size: int | None = field(
        default=None, metadata={"help": "Photos per process and forward pass; default 8."}
    )
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
    torch_compile: bool = field(default=False, metadata={"help": "Compile the network with `torch.compile`."})
    use_cpu: bool = field(default=False, metadata={"help": "Train on the CPU even if there is a GPU."})
    seed: int = field(default=0, metadata={"help": "Seed of weights, order, augmentation and loss points."})
    dataloader_num_workers: int = field(default=0, metadata={"help": "Processes that decode and augment photos."})

    def __post_init__(self):
        _check_positive(
            self,
            *("max_train_steps", "num_train_epochs", "total_train_batch_size", "per_device_train_batch_size"),
            *("gradient_accumulation_steps", "learning_rate", "max_grad_norm"),
        )


@dataclass
class OutputArguments:
    """What is written, when and where."""

    output_dir: str = field(
        default=None, metadata={"help": "Folder of checkpoints, log and final model.", "required": True}
    )
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
    with_tracking: bool = field(default=False, metadata={"help": "Send losses and scores to an experiment tracker."})
    report_to: str = field(
        default="tensorboard", metadata={"help": "Tracker of --with_tracking, by Accelerate's name."}
    )
    push_to_hub: bool = field(default=False, metadata={"help": "Upload the best model at the end."})
    hub_model_id: str | None = field(
        default=None, metadata={"help": "Repository of --push_to_hub, for example user/yoso-facade."}
    )
    hub_token: str | None = field(
        default=None, metadata={"help": "Token of --push_to_hub; the stored log-in by default. Never written."}
    )

    def __post_init__(self):
        _check_positive(self, "logging_steps", "eval_steps", "checkpointing_steps", "checkpoints_total_limit")
        if self.push_to_hub and self.hub_model_id is None:
            raise ValueError("`push_to_hub` needs `hub_model_id`, for example user/yoso-facade.")


@dataclass
class TrainingRun:
    """All arguments of one run, and the name of the recipe from which they come."""

    model: ModelArguments
    data: DataArguments
    optimization: OptimizationArguments
    output: OutputArguments
    recipe: str | None = None

    _FREE_ON_RESUME = (
        *("recipe", "model_name_or_path", "backbone_weights", "object_threshold", "overlap_threshold"),
        *("dataset_name", "dataset_dir", "validation_split", "validation_size"),
        *("max_train_steps", "num_train_epochs", "use_cpu", "dataloader_num_workers", "torch_compile"),
    )

    def as_dict(self) -> dict[str, Any]:
        """All arguments in one flat dict, the Hub token left out."""
        groups = (asdict(group) for group in (self.model, self.data, self.optimization, self.output))
        flat = {"recipe": self.recipe} | {name: value for group in groups for name, value in group.items()}
        del flat["hub_token"]
        return flat

    def fixed_on_resume(self) -> dict[str, Any]:
        """The arguments on which the weights depend: those that a resumed run must share."""
        free = {*self._FREE_ON_RESUME, *(item.name for item in dataclasses.fields(OutputArguments))}
        return {name: value for name, value in self.as_dict().items() if name not in free}

    def resolved(self, num_train_samples: int | None, num_processes: int) -> "TrainingRun":
        """
        The run with its batch size per process and its number of steps filled in.

        Args:
            num_train_samples: photos of the training split, None if that is unknown (streaming).
            num_processes: that train together.

        Raises:
            ValueError: the batch sizes contradict each other, or the number of steps cannot be told.
        """
        options = self.optimization
        per_device, total = _batch_sizes(options, num_processes)
        steps = options.max_train_steps
        if steps is None:
            if options.num_train_epochs is None:
                raise ValueError("How long? Give `max_train_steps`, `num_train_epochs` or a `recipe`.")
            if num_train_samples is None:
                raise ValueError("A streamed dataset has no known length: give `max_train_steps`, not epochs.")
            steps = max(int(-(-options.num_train_epochs * num_train_samples // total)), 1)
        optimization = dataclasses.replace(
            options, max_train_steps=steps, per_device_train_batch_size=per_device, total_train_batch_size=total
        )
        return dataclasses.replace(self, optimization=optimization)


def _batch_sizes(options: OptimizationArguments, num_processes: int) -> tuple[int, int]:
    passes = num_processes * options.gradient_accumulation_steps
    per_device, total = options.per_device_train_batch_size, options.total_train_batch_size
    if total is None:
        per_device = 8 if per_device is None else per_device
        return per_device, per_device * passes
    if total != (per_device or total // passes) * passes:
        parts = f"{num_processes} processes x {options.gradient_accumulation_steps} accumulated passes"
        chosen = f" x {per_device} photos" if per_device else ""
        raise ValueError(
            f"`total_train_batch_size` {total} is not {parts}{chosen}: change it, `gradient_accumulation_steps` or "
            "`per_device_train_batch_size`."
        )
    return total // passes, total


def _check_positive(arguments: Any, *names: str) -> None:
    for name in names:
        value = getattr(arguments, name)
        if value is not None and value <= 0:
            raise ValueError(f"`{name}` must be greater than 0, got {value}.")
