"""What the predictor returns for one photo: a map, its segments, and ways to show and to save them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage
from torch import Tensor

from ..visualization import Color, draw_panoptic
from ..visualization.segment_maps import segment_areas, segment_rows
from . import coco
from .errors import MissingPackageError, YosoError

if TYPE_CHECKING:
    import supervision


class Regions:
    """Where the segments of a map lie, found in one pass for all of them when first asked for."""

    def __init__(self, segmentation: np.ndarray, segment_ids: Sequence[int]):
        self.map, self.segment_ids = segmentation, list(segment_ids)

    @cached_property
    def rows(self) -> np.ndarray:
        """uint16 (H, W): position in `segment_ids` + 1, 0 = void."""
        return segment_rows(self.map, self.segment_ids)

    @cached_property
    def areas(self) -> dict[int, int]:
        """Pixels by segment id."""
        areas = segment_areas(self.rows, len(self.segment_ids)).tolist()
        return dict(zip(self.segment_ids, areas, strict=True))

    @cached_property
    def boxes(self) -> dict[int, tuple[int, int, int, int]]:
        """(x_min, y_min, x_max, y_max) by segment id, maxima exclusive; zeros for a segment without a pixel."""
        windows = ndimage.find_objects(self.rows, max_label=len(self.segment_ids))
        return {
            segment_id: (0, 0, 0, 0) if at is None else (at[1].start, at[0].start, at[1].stop, at[0].stop)
            for segment_id, at in zip(self.segment_ids, windows, strict=True)
        }


@dataclass(frozen=True)
class Segment:
    """
    One segment of a prediction.

    Attributes:
        id: its value in the map.
        label_id, label: its class.
        score: in [0, 1]; None for semantic segmentation.
        was_fused: whether all regions of the class are this one segment (stuff).
        instance: number within its class, from 0; it fixes the shade of colour.
    """

    id: int
    label_id: int
    label: str
    score: float | None
    was_fused: bool
    instance: int
    regions: Regions = field(repr=False, compare=False)

    @property
    def area(self) -> int:
        """Pixels."""
        return self.regions.areas[self.id]

    @property
    def box(self) -> tuple[int, int, int, int]:
        """(x_min, y_min, x_max, y_max) in pixels, maxima exclusive."""
        return self.regions.boxes[self.id]

    @property
    def mask(self) -> np.ndarray:
        """bool (H, W)."""
        return self.regions.map == self.id


class CocoPanoptic(NamedTuple):
    """An entry of `annotations` in COCO's panoptic JSON, and its map as RGB, uint8 (H, W, 3)."""

    annotation: dict[str, Any]
    rgb: np.ndarray


@dataclass(frozen=True)
class Prediction:
    """
    Segmentation of one photo.

    Attributes:
        map: int32 (H, W), segment ids, 0 = void; of the photo's size. Instances that overlap show the better on top.
        segments: in the order of the post-processing.
        id2label: names of all classes of the model.
        stuff_label_ids: classes that are not countable.
        subtask: "panoptic", "instance" or "semantic".
        pixels: the photo, uint8 (3, H, W), upright.
        source: path or URL, where the photo came as one.
        colors: the checkpoint's own colours by label id, for drawing; may be empty.
    """

    map: np.ndarray
    segments: list[Segment]
    id2label: dict[int, str]
    stuff_label_ids: list[int]
    subtask: str
    pixels: Tensor = field(repr=False)
    source: str | None = None
    colors: Mapping[int, Color] = field(default_factory=dict, repr=False)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.map.shape[0], self.map.shape[1]

    @property
    def image(self) -> Image.Image:
        """The photo, RGB, upright."""
        return Image.fromarray(self.pixels.permute(1, 2, 0).numpy())

    @property
    def segments_info(self) -> list[dict[str, Any]]:
        """The segments as Transformers' post-processing lists them, with "instance"."""
        keys = ("id", "label_id", "was_fused", "score", "instance")
        return [{key: getattr(segment, key) for key in keys} for segment in self.segments]

    def draw(
        self,
        *,
        alpha: float = 0.5,
        draw_labels: bool = True,
        legend: bool = False,
        badge: str | None = None,
        colors: Mapping[int, Color] | None = None,
    ) -> Image.Image:
        """The photo with the segments drawn over it, in the checkpoint's colours if it has some; see `draw_panoptic`."""
        return draw_panoptic(
            self.image,
            self.map,
            self.segments_info,
            self.id2label,
            alpha=alpha,
            draw_labels=draw_labels,
            legend=legend,
            badge=badge,
            colors=self.colors if colors is None else colors,
        )

    def to_coco(
        self, image_id: int = 0, file_name: str | None = None, category_ids: Mapping[int, int] | None = None
    ) -> CocoPanoptic:
        """
        COCO panoptic format.

        Args:
            image_id: of the photo in the JSON's `images`.
            file_name: of the PNG; by default the photo's with `.png`, or the image id.
            category_ids: category id by label id; by default the label ids themselves.
        """
        file_name = file_name or coco.png_name(self.source, image_id)
        segments_info = [coco.panoptic_segment(segment, category_ids) for segment in self.segments]
        annotation = {"image_id": image_id, "file_name": file_name, "segments_info": segments_info}
        return CocoPanoptic(annotation, coco.ids_to_rgb(self.map))

    def to_rle(self) -> list[dict[str, Any]]:
        """
        Per segment a dict with `id`, `label_id`, `label`, `score`, `area`, `bbox` (x, y, width, height) and
        `segmentation`, COCO's compressed run lengths (`size`, `counts`).

        Raises:
            MissingPackageError: pycocotools is not installed.
        """
        runs = coco.compressed_rle(self.segments[0].regions.rows, len(self.segments)) if self.segments else []
        return [
            {
                "id": segment.id,
                "label_id": segment.label_id,
                "label": segment.label,
                "score": segment.score,
                "area": segment.area,
                "bbox": coco.xywh(segment.box),
                "segmentation": rle,
            }
            for segment, rle in zip(self.segments, runs, strict=True)
        ]

    def to_supervision(self) -> "supervision.Detections":
        """
        `supervision.Detections` with boxes, masks, scores (where there are any), class ids, and the names and segment
        ids in `data["class_name"]` and `data["segment_id"]`.

        Raises:
            MissingPackageError: supervision is not installed.
        """
        try:
            import supervision
        except ImportError as error:
            raise MissingPackageError(
                "to_supervision() needs supervision: pip install 'transformers-yoso[supervision]'"
            ) from error
        if not self.segments:
            return supervision.Detections.empty()
        scores = [segment.score for segment in self.segments]
        return supervision.Detections(
            xyxy=np.array([segment.box for segment in self.segments], dtype=np.float32),
            mask=np.stack([segment.mask for segment in self.segments]),
            confidence=None if None in scores else np.array(scores, dtype=np.float32),
            class_id=np.array([segment.label_id for segment in self.segments]),
            data={
                "class_name": np.array([segment.label for segment in self.segments]),
                "segment_id": np.array([segment.id for segment in self.segments]),
            },
        )

    def renumber(self, segment_ids: Sequence[int], instances: Sequence[int]) -> "Prediction":
        """The same segments, in their order, with other ids (positive, unique) and numbers within their classes."""
        rows = segment_rows(self.map, [segment.id for segment in self.segments])
        segmentation = np.array([0, *segment_ids], dtype=np.int32).take(rows)
        regions = Regions(segmentation, segment_ids)
        segments = [
            replace(segment, id=segment_id, instance=instance, regions=regions)
            for segment, segment_id, instance in zip(self.segments, segment_ids, instances, strict=True)
        ]
        return replace(self, map=segmentation, segments=segments)


@dataclass(frozen=True)
class FailedPrediction:
    """Stands in the place of an image that could not be read; false where a `Prediction` is true."""

    source: str | None
    error: YosoError

    def __bool__(self) -> bool:
        return False
