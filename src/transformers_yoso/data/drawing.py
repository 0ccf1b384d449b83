"""Ground truth drawn over its photo."""

from collections.abc import Mapping

import numpy as np
from PIL import Image

from ..visualization import draw_panoptic
from .categories import CategoryTable
from .readers import PanopticRecord
from .sample import PanopticSample


def draw_sample(
    sample: PanopticSample, id2label: Mapping[int, str], *, alpha: float = 0.5, draw_labels: bool = True
) -> Image.Image:
    """The photo with fill (of opacity `alpha` in [0, 1]), outline and, if asked, name of every segment."""
    segments = [{"id": k + 1, "label_id": label} for k, label in enumerate(sample.class_labels.tolist())]
    photo = sample.image.permute(1, 2, 0).numpy()
    return draw_panoptic(photo, sample.segment_map + 1, segments, id2label, alpha=alpha, draw_labels=draw_labels)


def draw_record(record: PanopticRecord, categories: CategoryTable) -> Image.Image:
    """
    As `draw_sample`, for annotations that may be faulty.

    Segments that `segments_info` or the class table does not know are drawn as the unknown ones. A photo whose map has
    another size is drawn alone.
    """
    photo = record.photo.permute(1, 2, 0).numpy()
    if photo.shape[:2] != record.ids.shape:
        return Image.fromarray(photo)
    category_of = {info["id"]: info["category_id"] for info in record.segments_info}
    unknown = categories.num_labels
    segments = []
    for segment_id in np.unique(record.ids[record.ids != 0]).tolist():
        category = category_of.get(segment_id)
        segments.append({"id": segment_id, "label_id": categories.label_of_category.get(category, unknown)})
    return draw_panoptic(photo, record.ids, segments, {**categories.id2label, unknown: "UNKNOWN"})
