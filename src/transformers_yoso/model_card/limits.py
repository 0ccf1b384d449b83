"""What a reader must not expect from a checkpoint, as far as the records tell."""

from collections.abc import Mapping, Sequence
from typing import Any

from .records import CardRecords


def measured_limits(num_queries: int, records: CardRecords) -> list[str]:
    """Sentences that follow from the configuration, the evaluation, the run and the data."""
    sentences = [f"At most {num_queries} segments a photo, as there are {num_queries} queries."]
    if records.evaluation:
        sentences += quality_limits(records.evaluation.get("per_class", {}))
        if "best_step" in records.run:
            sentences.append(
                "Checkpoints of the run were compared on the validation split (best at step "
                f"{records.run['best_step']}), so expect less than its PQ on unseen photos."
            )
    else:
        sentences.append("Its quality was not measured.")
    train = records.dataset.get("splits", {}).get("train", {})
    if train.get("num_images"):
        sentences.append(
            f"Trained on {train['num_images']} photos of one dataset; photos of another kind were not measured."
        )
    return sentences


def quality_limits(per_class: Mapping[str, Mapping[str, Any]]) -> Sequence[str]:
    """Which classes were not in the evaluated photos, and which were never found in them."""
    counts = {
        name: [scores.get(key, 0) for key in ("true_positives", "false_positives", "false_negatives")]
        for name, scores in per_class.items()
    }
    missed = [name for name, (found, _, lost) in counts.items() if not found and lost]
    absent = [name for name, (found, _, lost) in counts.items() if not found and not lost]
    sentences = []
    if missed:
        sentences.append(f"Never found in the evaluated photos: {', '.join(missed)}.")
    if absent:
        sentences.append(f"Not measured, as the evaluated photos show none: {', '.join(absent)}.")
    return sentences
