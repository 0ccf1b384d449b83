"""Scores exported ONNX models on a split in COCO panoptic form, and compares their maps with torch's.

python scripts/evaluate_onnx.py --onnx onnx/model.onnx onnx/model_int8.onnx --dataset_dir DIR --split val \
    --model_name_or_path checkpoints/yoso-lite0-facade
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from transformers_yoso import YosoForUniversalSegmentation
from transformers_yoso.data import open_dataset
from transformers_yoso.export import OnnxPredictor
from transformers_yoso.metrics import PanopticQuality, reference_of
from transformers_yoso.models.image_processing_pil_yoso import YosoImageProcessorPil

Predict = Callable[[Image.Image], dict[str, Any]]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--onnx", required=True, nargs="+", type=Path, help="Exported files.")
    parser.add_argument("--model_name_or_path", help="Checkpoint they come from, to be scored in torch and compared.")
    parser.add_argument(
        "--dataset_dir", required=True, help="Folder with SPLIT/, panoptic_SPLIT/, panoptic_SPLIT.json."
    )
    parser.add_argument("--split", default="val")
    parser.add_argument("--output_json", type=Path, help="File for the scores.")
    return parser.parse_args()


def torch_predictor(model_name_or_path: str) -> Predict:
    """The checkpoint in torch, with the same pre-processing as `OnnxPredictor`."""
    model = YosoForUniversalSegmentation.from_pretrained(model_name_or_path, dtype=torch.float32).eval()
    image_processor = YosoImageProcessorPil.from_pretrained(model_name_or_path)

    @torch.no_grad()
    def predict(photo: Image.Image) -> dict[str, Any]:
        outputs = model(**image_processor(photo, return_tensors="pt"))
        (result,) = image_processor.post_process_panoptic_segmentation(outputs, target_sizes=[photo.size[::-1]])
        return {**result, "segmentation": result["segmentation"].numpy()}

    return predict


def main() -> None:
    arguments = parse_arguments()
    dataset = open_dataset(dataset_dir=arguments.dataset_dir, split=arguments.split)
    predictors: dict[str, Predict] = {path.name: OnnxPredictor(path) for path in arguments.onnx}
    for name, predictor in predictors.items():
        if predictor.id2label != dataset.categories.id2label:
            raise ValueError(f"The labels of {name} and the categories of {arguments.dataset_dir} differ.")
    if arguments.model_name_or_path is not None:
        predictors = {"torch": torch_predictor(arguments.model_name_or_path), **predictors}
    reference = next(iter(predictors))

    categories = dataset.categories
    qualities = {name: PanopticQuality(len(categories.id2label), categories.stuff_label_ids) for name in predictors}
    equal_pixels = {name: [] for name in predictors}
    for sample in tqdm(dataset, total=len(dataset)):
        photo = Image.fromarray(np.ascontiguousarray(sample.image.permute(1, 2, 0).numpy()))
        for name, predict in predictors.items():
            result = predict(photo)
            if name == reference:
                expected = semantic_map(result)
            equal_pixels[name].append(np.mean(semantic_map(result) == expected))
            qualities[name].add(prediction=result, reference=reference_of(sample))
    scores = {name: report(quality.compute(), equal_pixels[name]) for name, quality in qualities.items()}
    for name, values in scores.items():
        print(f"{name}: " + ", ".join(f"{key} {100 * value:.2f} %" for key, value in values.items()))
    if arguments.output_json is not None:
        arguments.output_json.write_text(json.dumps({"reference": reference, "scores": scores}, indent=2) + "\n")


def semantic_map(result: dict[str, Any]) -> np.ndarray:
    """Label + 1 of each pixel, 0 = void: what can be compared where an id more or less shifts all that follow."""
    labels = np.array([0, *(info["label_id"] + 1 for info in result["segments_info"])])
    return labels[result["segmentation"]]


def report(result: dict[str, Any], equal_pixels: list[float]) -> dict[str, float]:
    """PQ, SQ and RQ of all classes, PQ of things and stuff, and the mean share of pixels equal to the reference's."""
    return {
        **{key.upper(): result["all"][key] for key in ("pq", "sq", "rq")},
        "PQ things": result["things"]["pq"],
        "PQ stuff": result["stuff"]["pq"],
        "pixels of equal label": float(np.mean(equal_pixels)),
    }


if __name__ == "__main__":
    main()
