"""PQ from files in COCO panoptic form, read off the reference evaluation's rules line by line and nothing else."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

VOID = 0


def reference_pq(truth_json: Path, truth_folder: Path, predicted_json: Path, predicted_folder: Path) -> dict:
    """`{"all" | "things" | "stuff": {"pq", "sq", "rq", "n"}, category name: {"pq", "iou", "tp", "fp", "fn"}}`."""
    truth, predicted = json.loads(truth_json.read_text()), json.loads(predicted_json.read_text())
    predicted_of_image = {annotation["image_id"]: annotation for annotation in predicted["annotations"]}
    sums = {category["id"]: {"iou": 0.0, "tp": 0, "fp": 0, "fn": 0} for category in truth["categories"]}
    for annotation in truth["annotations"]:
        guess = predicted_of_image[annotation["image_id"]]
        add_image(
            sums,
            annotation["segments_info"],
            read_ids(truth_folder / annotation["file_name"]),
            guess["segments_info"],
            read_ids(predicted_folder / guess["file_name"]),
        )
    result = {
        name: average(sums, [category["id"] for category in truth["categories"] if category["isthing"] in wanted])
        for name, wanted in (("all", (0, 1)), ("things", (1,)), ("stuff", (0,)))
    }
    for category in truth["categories"]:
        counts = sums[category["id"]]
        divisor = counts["tp"] + counts["fp"] / 2 + counts["fn"] / 2
        result[category["name"]] = {"pq": counts["iou"] / divisor if divisor else 0.0, **counts}
    return result


def read_ids(png: Path) -> np.ndarray:
    red, green, blue = np.moveaxis(np.array(Image.open(png).convert("RGB")).astype(int), -1, 0)
    return red + 256 * green + 256 * 256 * blue


def add_image(
    sums: dict, truth: list[dict], true_ids: np.ndarray, guesses: list[dict], guessed_ids: np.ndarray
) -> None:
    shared = Counter(zip(true_ids.ravel().tolist(), guessed_ids.ravel().tolist(), strict=True))
    area_of_guess = Counter(guessed_ids.ravel().tolist())
    listed = {guess["id"] for guess in guesses}
    assert set(area_of_guess) - {VOID} == listed - {VOID}, "map and JSON disagree: the reference stops here"
    matched_truth, matched_guesses = set(), set()
    for segment in truth:
        for guess in guesses:
            if segment["iscrowd"] or segment["category_id"] != guess["category_id"]:
                continue
            pixels = shared[segment["id"], guess["id"]]
            union = area_of_guess[guess["id"]] + segment["area"] - pixels - shared[VOID, guess["id"]]
            if pixels / union > 0.5:
                sums[segment["category_id"]]["tp"] += 1
                sums[segment["category_id"]]["iou"] += pixels / union
                matched_truth.add(segment["id"])
                matched_guesses.add(guess["id"])
    crowd_of_category = {}
    for segment in truth:
        if segment["iscrowd"]:
            crowd_of_category[segment["category_id"]] = segment["id"]  # the last one stays
        elif segment["id"] not in matched_truth:
            sums[segment["category_id"]]["fn"] += 1
    for guess in guesses:
        if guess["id"] in matched_guesses:
            continue
        ignored = shared[VOID, guess["id"]]
        if guess["category_id"] in crowd_of_category:
            ignored += shared[crowd_of_category[guess["category_id"]], guess["id"]]
        if ignored / area_of_guess[guess["id"]] <= 0.5:
            sums[guess["category_id"]]["fp"] += 1


def average(sums: dict, categories: list[int]) -> dict:
    pq = sq = rq = n = 0
    for category in categories:
        iou, tp, fp, fn = (sums[category][key] for key in ("iou", "tp", "fp", "fn"))
        if tp + fp + fn == 0:
            continue
        n += 1
        pq += iou / (tp + fp / 2 + fn / 2)
        sq += iou / tp if tp else 0
        rq += tp / (tp + fp / 2 + fn / 2)
    return {"pq": pq / n, "sq": sq / n, "rq": rq / n, "n": n}
