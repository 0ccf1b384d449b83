"""
Trains YOSO; `--recipe` gives defaults (coco, cityscapes, ade20k, mapillary, finetune), which other arguments override.

One process: `python scripts/train.py ...`; all GPUs of a machine: `accelerate launch scripts/train.py ...`; several CPU
processes: `accelerate launch --multi_gpu --num_processes 2 scripts/train.py --use_cpu ...`.
"""

from accelerate import Accelerator
from accelerate.utils import set_seed
from transformers.utils import logging

from transformers_yoso.training import (
    PanopticTrainer,
    TrainingRun,
    build_image_processor,
    build_model,
    format_table,
    open_splits,
    parse_arguments,
    push_best_model,
)


def make_accelerator(run: TrainingRun) -> Accelerator:
    """With the run's precision, device and tracker."""
    accelerator = Accelerator(
        mixed_precision=run.optimization.mixed_precision,
        cpu=run.optimization.use_cpu,
        log_with=run.output.report_to if run.output.with_tracking else None,
        project_dir=run.output.output_dir,
    )
    if run.output.with_tracking:
        # trackers take plain values only
        settings = {
            name: value if isinstance(value, int | float) else str(value) for name, value in run.as_dict().items()
        }
        accelerator.init_trackers("training", settings)
    return accelerator


def main() -> None:
    run = parse_arguments(description=__doc__)
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


if __name__ == "__main__":
    main()
