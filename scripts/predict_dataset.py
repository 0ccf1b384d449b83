"""
Segments all photos of a dataset into COCO panoptic files, by one or many processes; start it again after a crash.

accelerate launch scripts/predict_dataset.py --model_name_or_path checkpoints/yoso-r50-coco --dataset_dir data/coco \\
    --split val --categories_file data/coco/panoptic_val.json --output_dir outputs/coco
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from tqdm import tqdm

from transformers_yoso.bulk import PredictionJob, open_shards
from transformers_yoso.data import CategoryTable
from transformers_yoso.evaluation.model_loading import check_labels
from transformers_yoso.inference import YosoError, YosoPredictor
from transformers_yoso.inference.checkpoint import size_of_edges
from transformers_yoso.inference.coco import categories as model_categories

SETTINGS = (
    *("model_name_or_path", "size", "dtype", "batch_size", "categories_file"),
    *("dataset_dir", "dataset_name", "dataset_config_name", "split", "image_column_name"),
)
"""Arguments on which the results depend."""


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model_name_or_path", required=True, help="Checkpoint folder or Hub name.")
    parser.add_argument("--dataset_dir", help="Folder of photos (maybe in SPLIT/), or of parquet or `save_to_disk`.")
    parser.add_argument("--dataset_name", help="Dataset on the Hub, instead of --dataset_dir.")
    parser.add_argument("--dataset_config_name", help="Configuration of the dataset on the Hub.")
    parser.add_argument("--split", default="val")
    parser.add_argument("--image_column_name", default="image")
    parser.add_argument("--output_dir", required=True, type=Path, help="Folder for panoptic.json and panoptic/.")
    parser.add_argument("--categories_file", help="COCO JSON whose category ids to write; default: the label ids.")
    parser.add_argument("--shard_size", type=int, default=256, help="Photo files in a shard; tables have their own.")
    parser.add_argument(
        "--size", type=int, nargs=2, metavar=("SHORTEST", "LONGEST"), help="Instead of the saved edges."
    )
    parser.add_argument("--dtype", default="float32", help="Of the weights, such as bfloat16.")
    parser.add_argument("--batch_size", type=int, default=1, help="Photos per forward pass and process.")
    parser.add_argument("--num_workers", type=int, default=2, help="Threads per process that read and resize photos.")
    parser.add_argument("--use_cpu", action="store_true", help="Stay on the CPU even if there is a GPU.")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    state = PartialState(cpu=arguments.use_cpu)
    shards = open_shards(
        arguments.dataset_name,
        arguments.dataset_config_name,
        dataset_dir=arguments.dataset_dir,
        split=arguments.split,
        image_column_name=arguments.image_column_name,
        shard_size=arguments.shard_size,
    )
    job = PredictionJob(arguments.output_dir, shards, {name: getattr(arguments, name) for name in SETTINGS})
    predictor = load_predictor(arguments, state)
    category_ids, categories = read_categories(arguments.categories_file, predictor)

    missing = [job.prepare() if state.is_main_process else None]
    broadcast_object_list(missing)
    own = missing[0][state.process_index :: state.num_processes]
    with tqdm(desc=f"{len(own)} shards", disable=not state.is_main_process, unit="photo") as bar:
        for name in own:
            options = {"batch_size": arguments.batch_size, "num_workers": arguments.num_workers}
            job.predict(predictor, name, category_ids=category_ids, on_photo=bar.update, **options)
    # Who finishes last merges, as shards may take hours; where nothing was left to do, one process.
    may_merge = bool(own) or (state.is_main_process and not missing[0])
    if may_merge and not job.missing():
        report(job.merge(categories), arguments.output_dir)


def load_predictor(arguments: argparse.Namespace, state: PartialState) -> YosoPredictor:
    """The checkpoint on this process's device, at the asked size."""
    changes = {} if arguments.size is None else {"size": size_of_edges(arguments.size)}
    return YosoPredictor.from_pretrained(
        arguments.model_name_or_path, device=state.device, dtype=arguments.dtype, **changes
    )


def read_categories(file: str | None, predictor: YosoPredictor) -> tuple[dict[int, int] | None, list[dict[str, Any]]]:
    """Category id by label id (None: the label ids), and COCO's `categories`."""
    categories = model_categories(predictor.id2label, predictor.stuff_label_ids)
    if file is None:
        return None, categories
    table = CategoryTable.from_file(file)
    check_labels(predictor.model.config, table, predictor.model.name_or_path, file)
    category_ids = {label: category for category, label in table.label_of_category.items()}
    return category_ids, [{**category, "id": category_ids[category["id"]]} for category in categories]


def report(merged: dict[str, Any], output_dir: Path) -> None:
    """Says what was written; exit code 1 if photos could not be read."""
    print(f"{len(merged['images'])} photos in {output_dir / 'panoptic.json'}")
    for failure in merged["failed"]:
        print(f"not read: {failure['file_name']}: {failure['error']}", file=sys.stderr)
    if merged["failed"]:
        sys.exit(1)


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError, YosoError) as error:
        sys.exit(f"No prediction: {error}")
