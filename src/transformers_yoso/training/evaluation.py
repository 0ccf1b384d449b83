"""Panoptic quality of a model on a dataset, through the image processor that ships with it."""

import time
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader, Dataset, Subset

from ..data import PanopticSample
from ..metrics import PanopticQuality


class _Prepare:
    """Runs the image processor on one sample, in a loader's worker."""

    def __init__(self, image_processor: Any):
        self.image_processor = image_processor

    def __call__(self, samples: list[PanopticSample]) -> tuple[PanopticSample, dict[str, torch.Tensor]]:
        (sample,) = samples
        return sample, dict(self.image_processor(images=sample.image, return_tensors="pt"))


@torch.no_grad()
def evaluate_panoptic(
    model: torch.nn.Module,
    image_processor: Any,
    dataset: Dataset,
    accelerator: Accelerator,
    num_workers: int = 0,
) -> dict[str, Any]:
    """
    Runs the model photo by photo at its processor's size and scores the panoptic maps at the photos' own size.

    Every process takes its share of the photos; all get the result over the whole dataset.

    Args:
        model: a `YosoForUniversalSegmentation` on the accelerator's device; runs in the accelerator's precision.
        image_processor: a `YosoImageProcessor`; its saved thresholds and stuff ids are used.
        dataset: of `PanopticSample`.
        accelerator: gives device, precision and processes.
        num_workers: of the loader.

    Returns:
        `PanopticQuality.compute()` with `num_images` and `seconds` added.
    """
    started = time.perf_counter()
    was_training = model.training
    model.eval()
    quality = PanopticQuality(model.config.num_labels, model.config.stuff_label_ids)
    share = Subset(dataset, range(accelerator.process_index, len(dataset), accelerator.num_processes))
    loader = DataLoader(
        share,
        collate_fn=_Prepare(image_processor),
        num_workers=num_workers,
        generator=torch.Generator(),  # the loader must not draw from the training's generator
    )
    for sample, inputs in loader:
        with accelerator.autocast():
            outputs = model(**{name: value.to(accelerator.device) for name, value in inputs.items()})
        target_sizes = [tuple(sample.segment_map.shape)]
        (result,) = image_processor.post_process_panoptic_segmentation(outputs, target_sizes=target_sizes)
        quality.update(
            result["segmentation"].cpu().numpy(),
            result["segments_info"],
            sample.segment_map.numpy(),
            sample.class_labels.tolist(),
            sample.is_crowd.tolist(),
        )
    model.train(was_training)
    state = accelerator.reduce(_to_device(quality.state(), accelerator), "sum")
    quality.load_state(state.cpu().numpy())
    return {**quality.compute(), "num_images": len(dataset), "seconds": time.perf_counter() - started}


def format_table(result: dict[str, Any], id2label: dict[int, str]) -> str:
    """The result of `evaluate_panoptic` as a text table in per cent: all, things, stuff, then each class."""
    rows = [f"{'':28s}{'PQ':>7s}{'SQ':>7s}{'RQ':>7s}{'TP':>7s}{'FP':>7s}{'FN':>7s}"]
    for name in ("all", "things", "stuff"):
        group = result[name]
        label = f"{name} ({group['num_classes']} classes)"
        rows.append(f"{label:28s}" + "".join(f"{100 * group[key]:7.1f}" for key in ("pq", "sq", "rq")))
    for label, scores in result["per_class"].items():
        counts = (scores["true_positives"], scores["false_positives"], scores["false_negatives"])
        values = "".join(f"{100 * scores[key]:7.1f}" for key in ("pq", "sq", "rq"))
        rows.append(f"{id2label[label][:27]:28s}{values}" + "".join(f"{count:7d}" for count in counts))
    return "\n".join(rows)


def _to_device(state: np.ndarray, accelerator: Accelerator) -> torch.Tensor:
    # MPS has no float64; counts up to 2**24 are exact in float32 too
    dtype = torch.float32 if accelerator.device.type == "mps" else torch.float64
    return torch.as_tensor(state, dtype=dtype, device=accelerator.device)
