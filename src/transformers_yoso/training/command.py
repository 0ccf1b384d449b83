"""The command of training: `yoso train` and `scripts/train.py`, in one process or under Accelerate's launcher."""

from collections.abc import Sequence

from accelerate import Accelerator
from accelerate.utils import set_seed
from transformers.utils import logging

from ..evaluation import format_table
from .arguments import TrainingRun
from .command_line import parse_arguments
from .data_loading import open_splits
from .model_setup import build_image_processor, build_model
from .shipping import push_best_model
from .trainer import PanopticTrainer

DESCRIPTION = """Trains YOSO; --recipe gives defaults (coco, cityscapes, ade20k, mapillary, finetune), which other
arguments override. Several processes: `accelerate launch scripts/train.py ...` on all GPUs of a machine, `accelerate
launch --multi_gpu --num_processes 2 scripts/train.py --use_cpu ...` on a CPU."""


def make_accelerator(run: TrainingRun) -> Accelerator:
    """
    With the run's precision, device and tracker.

    Raises:
        ValueError: float16 on a CPU, or a tracker that is unknown or whose package is not installed.
    """
    precision = run.optimization.mixed_precision
    accelerator = Accelerator(
        mixed_precision=precision,
        cpu=run.optimization.use_cpu,
        log_with=run.output.report_to if run.output.with_tracking else None,
        project_dir=run.output.output_dir,
    )
    if precision == "fp16" and accelerator.device.type == "cpu":  # Accelerate would train in float32 and say nothing
        raise ValueError("`mixed_precision` fp16 needs a GPU; on a CPU choose bf16 or no.")
    if run.output.with_tracking:
        _start_tracker(accelerator, run)
    return accelerator


def _start_tracker(accelerator: Accelerator, run: TrainingRun) -> None:
    if not accelerator.log_with:  # Accelerate drops trackers whose package is missing
        raise ValueError(
            f"`report_to` {run.output.report_to}: that package is not installed. Install it, choose another tracker or "
            "leave `with_tracking` out."
        )
    # trackers take plain values only
    settings = {name: value if isinstance(value, int | float) else str(value) for name, value in run.as_dict().items()}
    accelerator.init_trackers("training", settings)


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> None:
    """Runs the command, called `prog`, with the arguments `argv`; by default those of this process."""
    run = parse_arguments(argv, DESCRIPTION, prog)
    logging.disable_progress_bar()  # of loading and saving; training has its own
    accelerator = make_accelerator(run)
    set_seed(run.optimization.seed)
    train_dataset, validation_dataset = open_splits(run.data)
    model = build_model(run.model, train_dataset.categories)
    image_processor = build_image_processor(run.model, run.data, train_dataset.categories)
    trainer = PanopticTrainer(model, image_processor, train_dataset, validation_dataset, run, accelerator)
    result = trainer.train()
    if accelerator.is_main_process:
        print(format_table(result, model.config.id2label))
        print(f"Best PQ {100 * trainer.best_pq:.1f} after step {trainer.best_step}; model in {trainer.output_dir}")
        if run.output.push_to_hub:
            print(f"Uploaded to {push_best_model(run.output)}")
    accelerator.end_training()
