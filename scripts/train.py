"""Trains YOSO on a dataset in COCO panoptic form; run with `accelerate launch` for several devices."""

from accelerate import Accelerator
from accelerate.utils import set_seed
from transformers import HfArgumentParser

from transformers_yoso.data import CocoPanopticDataset
from transformers_yoso.training import (
    DataArguments,
    ModelArguments,
    OptimizationArguments,
    PanopticTrainer,
    TrainingRun,
    build_image_processor,
    build_model,
    format_table,
)


def main() -> None:
    parser = HfArgumentParser((ModelArguments, DataArguments, OptimizationArguments), description=__doc__)
    run = TrainingRun(*parser.parse_args_into_dataclasses())
    accelerator = Accelerator(mixed_precision=run.optimization.mixed_precision, cpu=run.optimization.use_cpu)
    set_seed(run.optimization.seed)

    train_dataset = CocoPanopticDataset.from_folder(run.data.dataset_dir, run.data.train_split)
    validation_dataset = CocoPanopticDataset.from_folder(run.data.dataset_dir, run.data.validation_split)
    if train_dataset.categories != validation_dataset.categories:
        raise ValueError(
            f"{train_dataset.json_file} and {validation_dataset.json_file} list different `categories`; they must agree."
        )
    model = build_model(run.model, train_dataset.categories)
    image_processor = build_image_processor(run.model, run.data, train_dataset.categories)
    trainer = PanopticTrainer(model, image_processor, train_dataset, validation_dataset, run, accelerator)
    result = trainer.train()
    if accelerator.is_main_process:
        print(format_table(result, model.config.id2label))
        print(f"Best PQ {100 * trainer.best_pq:.1f} after step {trainer.best_step}; model in {trainer.output_dir}")
    accelerator.end_training()


if __name__ == "__main__":
    main()
