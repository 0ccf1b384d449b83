"""Says what holds a YOSO checkpoint back on a dataset: causes of its errors by class and size, with pictures."""

import argparse
import json
from pathlib import Path

from accelerate import Accelerator

from transformers_yoso.data import open_dataset
from transformers_yoso.data.command_line import add_dataset_arguments, dataset_options
from transformers_yoso.evaluation import load_for_evaluation, predict_dataset
from transformers_yoso.evaluation.error_analysis import ErrorAnalysis, format_errors
from transformers_yoso.evaluation.error_examples import ErrorExamples


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model_name_or_path", required=True, help="Checkpoint folder or Hub name.")
    add_dataset_arguments(parser)
    parser.add_argument("--split", default="val")
    parser.add_argument(
        "--output_dir", type=Path, required=True, help="Folder for errors.json, errors.md and errors.png."
    )
    parser.add_argument("--object_threshold", type=float, help="Instead of the saved one.")
    parser.add_argument("--overlap_threshold", type=float, help="Instead of the saved one.")
    parser.add_argument("--use_cpu", action="store_true", help="Stay on the CPU even if there is a GPU.")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    accelerator = Accelerator(cpu=arguments.use_cpu)
    if accelerator.num_processes > 1:
        raise ValueError("The error analysis runs in one process: start it with `python scripts/analyse_errors.py`.")
    dataset = open_dataset(**dataset_options(arguments), split=arguments.split)
    model, image_processor = load_for_evaluation(
        arguments.model_name_or_path,
        dataset.categories,
        source=dataset.source,
        device=accelerator.device,
        threshold=arguments.object_threshold,
        overlap_threshold=arguments.overlap_threshold,
    )
    examples = ErrorExamples(model.config.id2label)
    analysis = ErrorAnalysis(model.config.id2label, model.config.stuff_label_ids, examples)
    predictions = predict_dataset(
        model, image_processor, dataset, accelerator, subtasks=("panoptic", "instance"), show_progress=True
    )
    for prediction in predictions:
        analysis.add(prediction)

    result = analysis.result()
    text = format_errors(result)
    print(text)
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    (arguments.output_dir / "errors.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    (arguments.output_dir / "errors.md").write_text(text + "\n", encoding="utf-8")
    examples.save(arguments.output_dir / "errors.png")


if __name__ == "__main__":
    main()
