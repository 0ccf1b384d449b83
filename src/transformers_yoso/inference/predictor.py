"""`YosoPredictor`: model and image processor in one, for photos, batches and streams."""

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..models.image_processing_yoso import YosoImageProcessor
from ..models.modeling_yoso import YosoForUniversalSegmentation
from ..visualization import named_colors
from .checkpoint import as_device, load_checkpoint
from .errors import ImageReadError, YosoError, one_line
from .photo_reading import read_photo, source_name
from .prediction import FailedPrediction, Prediction, Regions, Segment
from .prediction_stream import PredictionStream
from .subtasks import SegmentationOptions, segment_outputs
from .threaded_map import ThreadedMap

ON_ERROR = ("raise", "return")


@dataclass(frozen=True)
class PreparedPhoto:
    """A photo, uint8 (3, H, W), and the model's input made from it, (3, h, w) on its device, not yet padded."""

    source: str | None
    pixels: Tensor
    pixel_values: Tensor


@dataclass(frozen=True)
class Batch:
    """Photos (or failures) in their order, and the padded input or the outputs of those that could be read."""

    photos: list[PreparedPhoto | FailedPrediction]
    data: Any = None

    @property
    def readable(self) -> list[PreparedPhoto]:
        return [photo for photo in self.photos if isinstance(photo, PreparedPhoto)]


class YosoPredictor:
    """
    Segments photos: `YosoPredictor.from_pretrained(folder)("photo.jpg").draw().save("overlay.png")`.

    Args:
        model: is set to evaluation mode.
        image_processor: the checkpoint's, with its thresholds.
    """

    def __init__(self, model: YosoForUniversalSegmentation, image_processor: YosoImageProcessor):
        self.model, self.image_processor = model.eval(), image_processor

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        fuse: bool = True,
        **processor_kwargs: Any,
    ) -> "YosoPredictor":
        """
        Loads a checkpoint folder or a model of the Hub.

        Args:
            device: by default the GPU if CUDA has one, else the CPU.
            dtype: of the weights, such as `torch.bfloat16` or "bfloat16"; by default float32.
            fuse: whether to bring the model into its fast form for inference, which gives the same results.
            processor_kwargs: replace values saved with the image processor, such as
                `size={"shortest_edge": 512, "longest_edge": 800}`.

        Raises:
            CheckpointError: no checkpoint there, or one of another model.
            ValueError: a device that is not there, or no floating dtype.
        """
        device = as_device(device)
        model, image_processor = load_checkpoint(str(pretrained_model_name_or_path), dtype, processor_kwargs)
        predictor = cls(model.to(device), image_processor)
        if fuse and predictor.model.can_be_fused:
            predictor.model.fuse()
        return predictor

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype

    @property
    def id2label(self) -> dict[int, str]:
        return self.model.config.id2label

    @property
    def stuff_label_ids(self) -> list[int]:
        """Labels that are not countable; those that the image processor fuses."""
        return sorted(self.image_processor.label_ids_to_fuse)

    def __call__(
        self,
        images: Any,
        *,
        subtask: str = "panoptic",
        threshold: float | None = None,
        mask_threshold: float | None = None,
        overlap_mask_area_threshold: float | None = None,
        batch_size: int = 1,
        num_workers: int = 2,
        on_error: str = "raise",
    ) -> Prediction | FailedPrediction | list[Prediction | FailedPrediction] | PredictionStream:
        """
        Segments one image, a batch or a stream.

        Args:
            images: one image (PIL image of any mode, array or tensor (H, W), (H, W, C) or (C, H, W), path, URL or the
                bytes of a file), a list or tuple of them, an array or tensor (B, ...), or any other iterable of them.
            subtask: "panoptic", "instance" or "semantic".
            threshold: least score of a segment. Thresholds that are None are those saved with the checkpoint.
            mask_threshold: least mask probability of a pixel.
            overlap_mask_area_threshold: panoptic: part of its mask that a segment must win.
            batch_size: images that go through the model at once. Padding may change results a little.
            num_workers: threads that read and resize images.
            on_error: what an image that cannot be read gives: "raise" its error at its turn, or "return" a
                `FailedPrediction` in its place.

        Returns:
            For one image a `Prediction`, for a batch a list, for any other iterable a `PredictionStream`.

        Raises:
            ImageReadError, MissingFileError: an image that cannot be read, with `on_error="raise"`.
            ValueError: an unknown subtask, or a threshold outside of [0, 1].
        """
        if is_one_image(images):
            options = SegmentationOptions(subtask, threshold, mask_threshold, overlap_mask_area_threshold)
            result = self._finish(options, self._forward(self._collate([self._prepare(images)])))[0]
            if isinstance(result, FailedPrediction) and on_error == "raise":
                raise result.error
            return result
        results = self.stream(
            images,
            subtask=subtask,
            threshold=threshold,
            mask_threshold=mask_threshold,
            overlap_mask_area_threshold=overlap_mask_area_threshold,
            batch_size=batch_size,
            num_workers=num_workers,
            on_error=on_error,
        )
        return list(results) if isinstance(images, (list, tuple, np.ndarray, Tensor)) else results

    def stream(
        self,
        images: Iterable[Any],
        *,
        subtask: str = "panoptic",
        threshold: float | None = None,
        mask_threshold: float | None = None,
        overlap_mask_area_threshold: float | None = None,
        batch_size: int = 1,
        num_workers: int = 2,
        on_error: str = "raise",
    ) -> PredictionStream:
        """
        Results one by one, in order, while reading, transfer, model and post-processing of the next images run in
        threads. A bounded number of images is held, so `images` may be endless. Arguments as of calling the predictor.
        """
        options = SegmentationOptions(subtask, threshold, mask_threshold, overlap_mask_area_threshold)
        if on_error not in ON_ERROR:
            raise ValueError(f"`on_error` must be one of {ON_ERROR}, but is {on_error!r}.")
        if batch_size < 1 or num_workers < 1:
            raise ValueError("`batch_size` and `num_workers` must be at least 1.")
        stop = threading.Event()
        photos = ThreadedMap(self._prepare, images, stop, num_workers, ahead=batch_size + num_workers)
        batches = ThreadedMap(self._collate, batched(photos, batch_size), stop)
        outputs = ThreadedMap(self._forward, batches, stop)
        return PredictionStream(ThreadedMap(partial(self._finish, options), outputs, stop), stop, on_error)

    def _prepare(self, image: Any) -> PreparedPhoto | FailedPrediction:
        source = source_name(image)
        try:
            pixels = read_photo(image)
            try:
                values = self.image_processor(images=[self._to_gpu(pixels)], do_pad=False)["pixel_values"][0]
            except ValueError as error:
                raise ImageReadError(f"{source or 'an image'}: {one_line(error)}") from error
        except YosoError as error:
            return FailedPrediction(source, error)
        return PreparedPhoto(source, pixels, values)

    def _collate(self, photos: list[PreparedPhoto | FailedPrediction]) -> Batch:
        batch = Batch(photos)
        if not batch.readable:
            return batch
        values = [photo.pixel_values for photo in batch.readable]
        if len({value.shape for value in values}) == 1:  # the model pads by itself
            inputs = {"pixel_values": torch.stack(values)}
        else:
            inputs = self.image_processor(
                images=values, do_resize=False, do_rescale=False, do_normalize=False, return_tensors="pt"
            )
        moved = {name: value.to(self.device) for name, value in inputs.items()}
        return Batch(batch.photos, moved | {"pixel_values": moved["pixel_values"].to(self.dtype)})

    def _to_gpu(self, pixels: Tensor) -> Tensor:
        """With CUDA a photo is copied as uint8, to be resized and normalised there."""
        return pixels.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else pixels

    def _forward(self, batch: Batch) -> Batch:
        if batch.data is None:
            return batch
        with torch.inference_mode():
            return Batch(batch.photos, self.model(**batch.data))

    def _finish(self, options: SegmentationOptions, batch: Batch) -> list[Prediction | FailedPrediction]:
        if batch.data is None:
            return list(batch.photos)
        sizes = [tuple(photo.pixels.shape[1:]) for photo in batch.readable]
        resized_sizes = [tuple(photo.pixel_values.shape[1:]) for photo in batch.readable]
        with torch.inference_mode():
            results = iter(segment_outputs(self.image_processor, batch.data, sizes, options, resized_sizes))
        return [
            photo if isinstance(photo, FailedPrediction) else self._prediction(photo, *next(results), options.subtask)
            for photo in batch.photos
        ]

    def _prediction(
        self, photo: PreparedPhoto, segmentation: np.ndarray, segments_info: list[dict[str, Any]], subtask: str
    ) -> Prediction:
        regions = Regions(segmentation, [info["id"] for info in segments_info])
        seen: dict[int, int] = {}
        segments = []
        for info in segments_info:
            label_id = info["label_id"]
            instance = seen.get(label_id, 0)
            seen[label_id] = instance + 1
            segments.append(
                Segment(
                    id=info["id"],
                    label_id=label_id,
                    label=self.id2label[label_id],
                    score=info["score"],
                    was_fused=info["was_fused"],
                    instance=instance,
                    regions=regions,
                )
            )
        return Prediction(
            segmentation,
            segments,
            self.id2label,
            self.stuff_label_ids,
            subtask,
            photo.pixels,
            photo.source,
            named_colors(self.id2label, self.model.config.label_colors),
        )


def is_one_image(images: Any) -> bool:
    """Whether this is a single image, not several."""
    if isinstance(images, (np.ndarray, Tensor)):
        return images.ndim < 4
    return isinstance(images, (Image.Image, bytes)) or source_name(images) is not None


def batched(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Lists of `size` items, the last maybe shorter."""
    items = iter(items)
    while batch := list(islice(items, size)):
        yield batch
