"""A model's answers on a dataset, image by image, through the image processor that ships with it."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset
from tqdm import tqdm

from ..data import PanopticSample
from ..models.modeling_outputs_yoso import YosoForUniversalSegmentationOutput

SUBTASKS = ("panoptic", "instance", "semantic")


@dataclass(frozen=True)
class Prediction:
    """
    One image with the results that were asked for, on the CPU and at the image's own size.

    Attributes:
        index: position in the dataset, None for a streamed one.
        sample: image and ground truth.
        panoptic: `segmentation` and `segments_info`, with the processor's saved thresholds.
        instance: `segmentation`, bool `(instances, height, width)`, and `segments_info`, with threshold 0.
        semantic: integer map `(height, width)` of label ids.
    """

    index: int | None
    sample: PanopticSample
    panoptic: dict[str, Any] | None = None
    instance: dict[str, Any] | None = None
    semantic: torch.Tensor | None = None


def predict_dataset(
    model: torch.nn.Module,
    image_processor: Any,
    dataset: Dataset,
    accelerator: Accelerator,
    *,
    subtasks: Sequence[str] = ("panoptic",),
    indices: Sequence[int] | None = None,
    batch_size: int = 1,
    num_workers: int = 0,
    show_progress: bool = False,
) -> Iterator[Prediction]:
    """
    Runs the model over a dataset; memory does not grow with its length.

    Args:
        model: a `YosoForUniversalSegmentation` in evaluation mode on the accelerator's device.
        image_processor: a `YosoImageProcessor`.
        dataset: of `PanopticSample`; a streamed one has `share(process_index, num_processes)`.
        accelerator: gives device, precision and processes.
        subtasks: which of `SUBTASKS` to answer.
        indices: of a map-style dataset, the images to take; by default this process's share of all.
        batch_size: images per forward pass and process.
        num_workers: of the loader.
        show_progress: whether the main process shows a bar.

    Raises:
        ValueError: a subtask is unknown.
    """
    strangers = sorted(set(subtasks).difference(SUBTASKS))
    if strangers or not subtasks:
        raise ValueError(f"Unknown subtasks {strangers}: choose from {', '.join(SUBTASKS)}.")
    positions: Iterator[int | None] = repeat(None)
    total = None
    if isinstance(dataset, IterableDataset):
        share = dataset.share(accelerator.process_index, accelerator.num_processes)
    else:
        chosen = _process_positions(len(dataset), accelerator) if indices is None else indices
        share = Subset(dataset, [position % len(dataset) for position in chosen])
        positions, total = iter(chosen), len(chosen)
    loader = DataLoader(
        share,
        batch_size=batch_size,
        collate_fn=_Prepare(image_processor),
        num_workers=num_workers,
        generator=torch.Generator(),  # the loader must not draw from the training's generator
    )
    with tqdm(total=total, disable=not (show_progress and accelerator.is_main_process), unit="image") as bar:
        for samples, inputs in loader:
            with torch.no_grad(), accelerator.autocast():
                outputs = model(**{name: value.to(accelerator.device) for name, value in inputs.items()})
            for k, sample in enumerate(samples):
                index = next(positions)
                if index is None or index < len(dataset):
                    yield _post_process(image_processor, _of_image(outputs, k), Prediction(index, sample), subtasks)
                bar.update()


class _Prepare:
    """Runs the image processor on a batch of samples, in a loader's worker."""

    def __init__(self, image_processor: Any):
        self.image_processor = image_processor

    def __call__(self, samples: list[PanopticSample]) -> tuple[list[PanopticSample], dict[str, torch.Tensor]]:
        inputs = self.image_processor(images=[sample.image for sample in samples], return_tensors="pt")
        return samples, dict(inputs)


def _process_positions(num_samples: int, accelerator: Accelerator) -> range:
    """
    Every `num_processes`-th position, equally many for each process.

    Positions from `num_samples` on only keep the processes in step, which a sharded model needs; they wrap around, and
    their results are thrown away.
    """
    num_processes = accelerator.num_processes
    steps = math.ceil(num_samples / num_processes)
    return range(accelerator.process_index, steps * num_processes, num_processes)


def _of_image(outputs: Any, k: int) -> YosoForUniversalSegmentationOutput:
    """The outputs of image `k` alone, so that the masks of one image at a time are upsampled."""
    return YosoForUniversalSegmentationOutput(
        class_queries_logits=outputs.class_queries_logits[k : k + 1],
        masks_queries_logits=outputs.masks_queries_logits[k : k + 1],
        image_sizes=None if outputs.image_sizes is None else outputs.image_sizes[k : k + 1],
    )


def _post_process(image_processor: Any, outputs: Any, prediction: Prediction, subtasks: Sequence[str]) -> Prediction:
    sizes = [tuple(prediction.sample.segment_map.shape)]
    results: dict[str, Any] = {}
    if "panoptic" in subtasks:
        (results["panoptic"],) = image_processor.post_process_panoptic_segmentation(outputs, target_sizes=sizes)
    if "instance" in subtasks:
        (results["instance"],) = image_processor.post_process_instance_segmentation(
            outputs, threshold=0.0, target_sizes=sizes, return_binary_maps=True
        )
    for result in results.values():
        result["segmentation"] = result["segmentation"].cpu()
    if "semantic" in subtasks:
        (semantic,) = image_processor.post_process_semantic_segmentation(outputs, target_sizes=sizes)
        results["semantic"] = semantic.cpu()
    return replace(prediction, **results)
