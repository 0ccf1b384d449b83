"""What each released checkpoint was made for: labels, thresholds and sizes (paper section 4.1, released configs)."""

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources

RELEASE_URL = "https://github.com/hujiecpp/YOSO/releases/download/v0.1"


@dataclass(frozen=True)
class DatasetSpec:
    """One released ResNet-50 checkpoint of the authors.

    Attributes:
        name: Name used for the label table and the release asset.
        title: The data set's own name.
        num_things, num_stuff: Number of thing and stuff classes.
        object_threshold: Queries at or below this probability are dropped, in [0, 1].
        overlap_threshold: Least share of a mask that must stay visible, in [0, 1].
        temperature: Class logits are divided by it.
        num_queries, num_class_layers, num_mask_layers: Sizes of the decoder.
        shortest_edge, longest_edge: Test size in pixels, the larger of the paper's.
        freeze_batch_norm_2d: Whether the backbone's batch norm is frozen.
        panoptic_quality: What the paper reports on the validation split, in percent, by test size.
    """

    name: str
    title: str
    num_things: int
    num_stuff: int
    object_threshold: float
    overlap_threshold: float
    temperature: float
    num_queries: int
    num_class_layers: int
    num_mask_layers: int
    shortest_edge: int
    longest_edge: int
    freeze_batch_norm_2d: bool
    panoptic_quality: dict[tuple[int, int], float]

    @property
    def num_labels(self) -> int:
        """Number of thing and stuff classes together."""
        return self.num_things + self.num_stuff

    @property
    def id2label(self) -> dict[int, str]:
        """Contiguous label id -> name, in the order of the checkpoint's class logits."""
        return {index: label["name"] for index, label in enumerate(_label_table(self.name))}

    @property
    def stuff_label_ids(self) -> list[int]:
        """Contiguous ids of the stuff classes."""
        return [index for index, label in enumerate(_label_table(self.name)) if not label["isthing"]]

    @property
    def label_colors(self) -> list[tuple[int, int, int]]:
        """The data set's own colours, RGB 0-255, by contiguous id."""
        return [tuple(label["color"]) for label in _label_table(self.name)]

    @property
    def checkpoint_url(self) -> str:
        """Address of the checkpoint in release v0.1 of the authors' repository."""
        return f"{RELEASE_URL}/yoso_res50_{self.name}.pth"


@cache
def _label_table(name: str) -> list[dict]:
    path = resources.files(__package__) / "dataset_labels" / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8"))


DATASET_SPECS = {
    spec.name: spec
    for spec in (
        DatasetSpec(
            name="coco",
            title="COCO panoptic 2017",
            num_things=80,
            num_stuff=53,
            object_threshold=0.7,
            overlap_threshold=0.8,
            temperature=0.05,
            num_queries=100,
            num_class_layers=1,
            num_mask_layers=1,
            shortest_edge=800,
            longest_edge=1333,
            freeze_batch_norm_2d=True,
            panoptic_quality={(800, 1333): 48.4, (512, 800): 46.4},
        ),
        DatasetSpec(
            name="cityscapes",
            title="Cityscapes",
            num_things=8,
            num_stuff=11,
            object_threshold=0.8,
            overlap_threshold=0.8,
            temperature=0.05,
            num_queries=100,
            num_class_layers=3,
            num_mask_layers=3,
            shortest_edge=1024,
            longest_edge=2048,
            freeze_batch_norm_2d=False,
            panoptic_quality={(1024, 2048): 59.7, (512, 1024): 52.5},
        ),
        DatasetSpec(
            name="ade20k",
            title="ADE20K panoptic (150 classes)",
            num_things=100,
            num_stuff=50,
            object_threshold=0.2,
            overlap_threshold=0.8,
            temperature=0.5,
            num_queries=100,
            num_class_layers=1,
            num_mask_layers=1,
            shortest_edge=640,
            longest_edge=2560,
            freeze_batch_norm_2d=True,
            panoptic_quality={(640, 2560): 38.0},
        ),
        DatasetSpec(
            name="mapillary",
            title="Mapillary Vistas v1.2",
            num_things=37,
            num_stuff=28,
            object_threshold=0.0,
            overlap_threshold=0.8,
            temperature=0.1,
            num_queries=150,
            num_class_layers=3,
            num_mask_layers=3,
            shortest_edge=2048,
            longest_edge=2048,
            freeze_batch_norm_2d=True,
            panoptic_quality={(2048, 2048): 34.1},
        ),
    )
}


def get_dataset_spec(name: str) -> DatasetSpec:
    """The spec of `name`.

    Raises:
        ValueError: for a data set without a released checkpoint.
    """
    if name not in DATASET_SPECS:
        raise ValueError(f"No released YOSO checkpoint for {name!r}; choose one of {', '.join(DATASET_SPECS)}.")
    return DATASET_SPECS[name]
