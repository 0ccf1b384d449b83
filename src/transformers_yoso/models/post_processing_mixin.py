"""Post-processing methods of the YOSO image processors, with Transformers' signatures and return types."""

from collections.abc import Collection, Sequence
from typing import Any, Literal

from torch import Tensor
from transformers.image_processing_outputs import SemanticSegmentationPostProcessorOutput

from .canvas import MASK_STRIDE
from .gpu_panoptic import panoptic_segmentations, triton_assignment
from .image_resizing import get_padded_size, get_resized_image_size
from .post_processing import (
    UNDEFINED_LOGITS,
    binary_mask_to_rle,
    instance_segmentation,
    panoptic_segmentation,
    semantic_segmentation,
)
from .segmentation_encoding import encode_png, encode_rle

ImageSizes = Sequence[tuple[int, int]] | Tensor


class YosoPostProcessingMixin:
    """Turns `YosoForUniversalSegmentationOutput` into segmentations; arguments left at `None` take the saved values.

    Arguments of all three methods:

    - `outputs`: has `class_queries_logits` (B, N, C+1), `masks_queries_logits` (B, N, h, w), maybe `image_sizes`.
    - `target_sizes`: (height, width) of each result, a list or a (B, 2) tensor; usually the original image sizes.
      `None` gives results of the resized image's size, without the padding.
    - `resized_sizes`: (height, width) of each image inside the padded input, where `outputs` cannot tell; see
      `resolve_image_sizes`.

    All raise `ValueError` if the number of sizes is not the batch size or a size does not fit the padded input.
    """

    def post_process_panoptic_segmentation(
        self,
        outputs: Any,
        threshold: float | None = None,
        mask_threshold: float | None = None,
        overlap_mask_area_threshold: float | None = None,
        label_ids_to_fuse: Collection[int] | None = None,
        target_sizes: ImageSizes | None = None,
        resized_sizes: ImageSizes | None = None,
        output_format: Literal["map", "rle", "png"] = "map",
    ) -> list[dict[str, Any]]:
        """Panoptic segmentation by the authors' rules; an empty `label_ids_to_fuse` fuses nothing.

        Args:
            output_format: What `segmentation` is: "map", the map itself; "rle", COCO's run lengths of each segment, in
                the order of `segments_info` (see `encode_rle`); "png", the bytes of COCO's PNG (see `encode_png`).

        Returns:
            Per image a dict with `segmentation`, int32 (height, width), 0 = void, and `segments_info`, a list of dicts
            with `id` (unique, from 1, in the order of the queries), `label_id`, `was_fused` (the label is one of
            `label_ids_to_fuse`) and `score` (class probability; of a fused segment that of its best part). If no
            query is kept, the map is all zero and the list empty.
        """
        if output_format not in ("map", "rle", "png"):
            raise ValueError(f"`output_format` must be 'map', 'rle' or 'png', but is {output_format!r}.")
        rules = {
            "threshold": self._saved_unless_given("threshold", threshold),
            "mask_threshold": self._saved_unless_given("mask_threshold", mask_threshold),
            "overlap_mask_area_threshold": self._saved_unless_given(
                "overlap_mask_area_threshold", overlap_mask_area_threshold
            ),
            "label_ids_to_fuse": set(self.label_ids_to_fuse if label_ids_to_fuse is None else label_ids_to_fuse),
        }
        images = self._split_outputs(outputs, target_sizes, resized_sizes)
        assign_pixels = triton_assignment(outputs.masks_queries_logits.device)
        if assign_pixels is not None:
            results = panoptic_segmentations(images, assign_pixels, **rules)
        else:
            check_logits(outputs)
            results = [panoptic_segmentation(*image, **rules) for image in images]
        for result in results:
            if output_format == "png":
                result["segmentation"] = encode_png(result["segmentation"])
            elif output_format == "rle":
                segment_ids = [segment["id"] for segment in result["segments_info"]]
                result["segmentation"] = encode_rle(result["segmentation"], segment_ids)
        return results

    def post_process_instance_segmentation(
        self,
        outputs: Any,
        threshold: float | None = None,
        mask_threshold: float | None = None,
        overlap_mask_area_threshold: float | None = None,
        target_sizes: ImageSizes | None = None,
        return_coco_annotation: bool = False,
        return_binary_maps: bool = False,
        resized_sizes: ImageSizes | None = None,
    ) -> list[dict[str, Any]]:
        """Instance segmentation: the 100 best pairs of query and class, as the authors evaluate it.

        Instances may overlap: ask for `return_coco_annotation` or `return_binary_maps` to get each whole.

        Args:
            threshold: Least score, class probability times mean mask probability inside the mask; 0 keeps every
                instance with a mask, as the authors' evaluation does.
            overlap_mask_area_threshold: Not used, as instances do not compete for pixels; accepted because pipelines
                pass it.

        Returns:
            Per image a dict with `segments_info`, a list of dicts with `id` (unique, from 1), `label_id`, `was_fused`
            (False) and `score`, in descending order of class probability, and `segmentation`: int32 (height, width),
            0 = void, higher scores on top; or with `return_coco_annotation` the run lengths of each instance; or with
            `return_binary_maps` bool (instances, height, width), both in the order of `segments_info`.
        """
        if return_coco_annotation and return_binary_maps:
            raise ValueError("`return_coco_annotation` and `return_binary_maps` exclude each other: set one of them.")
        check_logits(outputs)
        results = []
        for logits_and_sizes in self._split_outputs(outputs, target_sizes, resized_sizes):
            result = instance_segmentation(
                *logits_and_sizes,
                threshold=self._saved_unless_given("threshold", threshold),
                mask_threshold=self._saved_unless_given("mask_threshold", mask_threshold),
                return_masks=return_coco_annotation or return_binary_maps,
            )
            if return_coco_annotation:
                result["segmentation"] = [binary_mask_to_rle(mask) for mask in result["segmentation"]]
            results.append(result)
        return results

    def post_process_semantic_segmentation(
        self,
        outputs: Any,
        target_sizes: ImageSizes | None = None,
        return_segmentation_scores: bool = False,
        resized_sizes: ImageSizes | None = None,
    ) -> list[Tensor] | list[SemanticSegmentationPostProcessorOutput]:
        """Semantic segmentation; every pixel gets a class, there is no void.

        Returns:
            Per image the int64 map (height, width) of classes; with `return_segmentation_scores` instead an output
            with that map as `segmentation` and float32 `segmentation_scores` (C, height, width).
        """
        check_logits(outputs)
        results = []
        for logits_and_sizes in self._split_outputs(outputs, target_sizes, resized_sizes):
            segmentation, scores = semantic_segmentation(*logits_and_sizes, return_scores=return_segmentation_scores)
            if return_segmentation_scores:
                data = {"segmentation": segmentation, "segmentation_scores": scores}
                results.append(SemanticSegmentationPostProcessorOutput(data=data))
            else:
                results.append(segmentation)
        return results

    def resolve_image_sizes(
        self, outputs: Any, target_sizes: ImageSizes | None = None, resized_sizes: ImageSizes | None = None
    ) -> list[tuple[int, int]]:
        """(height, width) in pixels of each image inside the padded input, which is what must not be cut off or kept.

        The first of these that is known: `resized_sizes`; `outputs.image_sizes`, from the model's `pixel_mask`; the
        sizes to which this processor resizes images of `target_sizes`, if they make up exactly this padded input;
        the whole padded input.
        """
        batch_size, _, grid_height, grid_width = outputs.masks_queries_logits.shape
        padded_size = (grid_height * MASK_STRIDE, grid_width * MASK_STRIDE)
        known_sizes = resized_sizes if resized_sizes is not None else getattr(outputs, "image_sizes", None)
        if known_sizes is not None:
            image_sizes = _as_sizes(known_sizes, batch_size, "resized_sizes")
            if any(height > padded_size[0] or width > padded_size[1] for height, width in image_sizes):
                raise ValueError(
                    f"`resized_sizes` {image_sizes} do not fit the padded input {padded_size}: they must be the sizes "
                    "(height, width) of the images after resizing, before padding."
                )
            return image_sizes
        if target_sizes is not None:
            image_sizes = _as_sizes(target_sizes, batch_size, "target_sizes")
            if self.do_resize:
                image_sizes = [get_resized_image_size(size, self.size) for size in image_sizes]
            fits = all(height <= padded_size[0] and width <= padded_size[1] for height, width in image_sizes)
            if fits and padded_size == get_padded_size(image_sizes, self.size_divisor, self.pad_size):
                return image_sizes
        return [padded_size] * batch_size

    def _split_outputs(
        self, outputs: Any, target_sizes: ImageSizes | None, resized_sizes: ImageSizes | None
    ) -> list[tuple[Tensor, Tensor, tuple[int, int], tuple[int, int]]]:
        """Per image (class logits, mask logits, image size, target size)."""
        image_sizes = self.resolve_image_sizes(outputs, target_sizes, resized_sizes)
        batch_size = len(image_sizes)
        target_sizes = image_sizes if target_sizes is None else _as_sizes(target_sizes, batch_size, "target_sizes")
        logits = (outputs.class_queries_logits, outputs.masks_queries_logits)
        return list(zip(*logits, image_sizes, target_sizes, strict=True))

    def _saved_unless_given(self, name: str, value: float | None) -> float:
        value = getattr(self, name) if value is None else value
        check_fraction(name, value)
        return value


def check_logits(outputs: Any) -> None:
    """Raises `ValueError` if class logits are NaN or infinite."""
    if not outputs.class_queries_logits.isfinite().all():
        raise ValueError(UNDEFINED_LOGITS)


def check_fraction(name: str, value: float) -> None:
    """Raises `ValueError` naming the threshold `name` if its value lies outside of [0, 1]."""
    if not 0 <= value <= 1:
        raise ValueError(f"`{name}` must lie in [0, 1], but is {value}.")


def _as_sizes(sizes: ImageSizes, batch_size: int, name: str) -> list[tuple[int, int]]:
    sizes = sizes.tolist() if isinstance(sizes, Tensor) else sizes
    sizes = [(int(height), int(width)) for height, width in sizes]
    if len(sizes) != batch_size:
        raise ValueError(
            f"Got {len(sizes)} `{name}` for a batch of {batch_size}: hand in one (height, width) per image."
        )
    if min(min(size) for size in sizes) < 1:
        raise ValueError(f"`{name}` must be positive, but are {sizes}.")
    return sizes
