"""Predictions for tests of metrics: the truth of real photos with the mistakes that a model makes."""

import numpy as np
import torch

from transformers_yoso.data import PanopticSample


def truth_as_prediction(sample: PanopticSample) -> dict:
    """The true segments as `post_process_panoptic_segmentation` would return them."""
    segments = [
        {"id": k + 1, "label_id": label, "was_fused": False, "score": 1.0}
        for k, label in enumerate(sample.class_labels.tolist())
    ]
    return {"segmentation": sample.segment_map + 1, "segments_info": segments}


def perturbed_prediction(
    sample: PanopticSample, num_labels: int, generator: np.random.Generator, largest_shift: int = 6
) -> dict:
    """Segments moved by some pixels, relabelled, left out, merged with a neighbour, and one over a corner's void."""
    ids = sample.segment_map.numpy() + 1
    ids = np.roll(ids, generator.integers(-largest_shift, largest_shift + 1, 2), (0, 1))
    labels = dict(enumerate(sample.class_labels.tolist(), start=1))
    for segment_id in labels:
        mistake = generator.random()
        if mistake < 0.1:
            ids[ids == segment_id] = 0
        elif mistake < 0.2:
            ids[ids == segment_id] = generator.choice(list(labels))
        elif mistake < 0.35:
            labels[segment_id] = int(generator.integers(num_labels))
    corner = ids.shape[0] // 5, ids.shape[1] // 4
    ids[: corner[0], : corner[1]] = len(labels) + 1
    labels[len(labels) + 1] = int(generator.integers(num_labels))
    present = set(np.unique(ids).tolist())
    segments = [
        {"id": segment_id, "label_id": label, "was_fused": False, "score": round(float(generator.random()), 6)}
        for segment_id, label in labels.items()
        if segment_id in present
    ]
    return {"segmentation": torch.from_numpy(ids), "segments_info": segments}


def perturbed_instances(sample: PanopticSample, num_labels: int, generator: np.random.Generator) -> dict:
    """Overlapping instance masks with scores, as `post_process_instance_segmentation` returns them."""
    masks, segments = [], []
    for k, label in enumerate(sample.class_labels.tolist()):
        for _ in range(generator.integers(1, 3)):
            shift = generator.integers(-4, 5, 2).tolist()
            masks.append(torch.roll(sample.segment_map == k, shift, (0, 1)))
            guess = label if generator.random() < 0.8 else int(generator.integers(num_labels))
            segments.append({"id": len(masks), "label_id": guess, "score": round(float(generator.random()), 6)})
    return {"segmentation": torch.stack(masks), "segments_info": segments}
