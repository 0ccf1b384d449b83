"""What the dataset checker reports: findings, and what it learned of each photo and split."""

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np


class Kind(NamedTuple):
    """A sort of fault; errors stop training or spoil scores, warnings deserve a look."""

    name: str
    is_error: bool


UNOPENABLE = Kind("cannot be opened", True)
ANNOTATION = Kind("faulty annotation", True)
UNREADABLE = Kind("missing or unreadable file", True)
SIZE = Kind("sizes differ", True)
UNKNOWN_ID = Kind("id without segment", True)
UNKNOWN_CATEGORY = Kind("unknown category", True)
DOUBLED_ACROSS_SPLITS = Kind("photo in two splits", True)
OTHER_CLASSES = Kind("classes differ", True)
NO_PIXELS = Kind("segment without pixels", False)
AREA = Kind("area contradicts the map", False)
BOX = Kind("box contradicts the map", False)
EMPTY = Kind("photo without segments", False)
MOSTLY_VOID = Kind("mostly void", False)
MOSTLY_CROWD = Kind("mostly crowd", False)
TOO_MANY_SEGMENTS = Kind("more segments than queries", False)
DOUBLED = Kind("photo twice in a split", False)
NEARLY_DOUBLED = Kind("photos of two splits look alike", False)
NO_SEGMENTS_OF_CLASS = Kind("classes without segments", False)
ONE_KIND_ONLY = Kind("no thing or no stuff class", False)


@dataclass(frozen=True)
class Finding:
    """
    One fault.

    Attributes:
        kind: its sort.
        split: where it was found.
        message: what is wrong, with the file's name.
        index: the photo's place in the split, if the fault is a photo's.
    """

    kind: Kind
    split: str
    message: str
    index: int | None = None


@dataclass(frozen=True)
class PhotoFacts:
    """
    What was seen of one usable photo.

    Attributes:
        index: place in the split.
        file_name: where it came from.
        size: height and width in pixels.
        segments: number of segments by label id, crowds left out.
        pixels: number of pixels by label id.
        num_crowds: number of crowd regions.
        crowd_share: share of the photo's pixels.
        void_share: share of the photo's pixels.
        content_hash: of the decoded pixels.
        likeness: bits that differ little between photos that look alike, bool `(256,)`.
    """

    index: int
    file_name: str
    size: tuple[int, int]
    segments: Counter[int]
    pixels: Counter[int]
    num_crowds: int
    crowd_share: float
    void_share: float
    content_hash: str
    likeness: np.ndarray


@dataclass
class SplitCheck:
    """
    Result for one split.

    Attributes:
        split: its name.
        source: annotation file or dataset name.
        id2label: class names by label id.
        stuff_label_ids: label ids of stuff.
        num_photos: photos that the annotations list.
        photos: facts of those that can be used.
        findings: all faults, in the order in which they were found.
    """

    split: str
    source: str
    id2label: dict[int, str] = field(default_factory=dict)
    stuff_label_ids: list[int] = field(default_factory=list)
    num_photos: int = 0
    photos: list[PhotoFacts] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
