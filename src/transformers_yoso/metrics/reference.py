"""The one form in which all metrics take an image's ground truth."""

from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

if TYPE_CHECKING:
    from transformers_yoso.data import PanopticSample


class PanopticReference(TypedDict):
    """
    Ground truth of one image.

    Keys:
        image_id: int or str; an image whose id was added before counts once.
        segment_map: integer `(height, width)`; value `k` in `[0, num_segments)` is segment `k`, anything else is void.
        class_labels: label id per segment.
        is_crowd: crowd mark per segment.
    """

    image_id: int | str
    segment_map: Any
    class_labels: Any
    is_crowd: Any


def reference_of(sample: "PanopticSample") -> PanopticReference:
    """The ground truth of a sample of any of the readers."""
    return {
        "image_id": sample.image_id,
        "segment_map": sample.segment_map,
        "class_labels": sample.class_labels,
        "is_crowd": sample.is_crowd,
    }


def reference_arrays(
    reference: PanopticReference, num_labels: int, map_size: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    The ground truth as arrays, with void as `num_segments`.

    Args:
        reference: ground truth of an image.
        num_labels: number of classes.
        map_size: (height, width) of the prediction.

    Returns:
        int64 map `(height, width)` with values in `[0, num_segments]`, int64 labels and bool crowd marks
        `(num_segments,)`.

    Raises:
        ValueError: the sizes differ, a label is outside `[0, num_labels)`, or labels and crowd marks differ in number.
    """
    segment_map = np.asarray(reference["segment_map"]).astype(np.int64)
    if segment_map.shape != tuple(map_size):
        raise ValueError(
            f"Image {reference['image_id']}: the predicted map is {tuple(map_size)} and the true map "
            f"{segment_map.shape} (height, width); pass target_sizes=[(height, width)] to the post-processing."
        )
    labels = checked_labels(reference["class_labels"], num_labels)
    is_crowd = np.asarray(reference["is_crowd"], dtype=bool).reshape(-1)
    if len(labels) != len(is_crowd):
        raise ValueError(f"Image {reference['image_id']}: {len(labels)} class labels, {len(is_crowd)} crowd marks.")
    is_segment = (segment_map >= 0) & (segment_map < len(labels))
    return np.where(is_segment, segment_map, len(labels)), labels, is_crowd


def checked_labels(labels: Any, num_labels: int) -> np.ndarray:
    """Labels as int64 `(num_segments,)`; raises `ValueError` if one is outside `[0, num_labels)`."""
    array = np.asarray(labels, dtype=np.int64).reshape(-1)
    strangers = np.unique(array[(array < 0) | (array >= num_labels)])
    if len(strangers):
        raise ValueError(f"Labels {strangers.tolist()} are not in [0, {num_labels}).")
    return array
