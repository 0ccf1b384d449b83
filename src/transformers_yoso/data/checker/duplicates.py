"""Photos that occur twice, within a split or across splits."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from .findings import DOUBLED, DOUBLED_ACROSS_SPLITS, NEARLY_DOUBLED, Finding, PhotoFacts, SplitCheck

MAX_DIFFERING_BITS = 20
"""Of 256; photos that have nothing in common differ in about half of them."""
ROWS_AT_ONCE = 1024


def find_duplicates(splits: Sequence[SplitCheck]) -> None:
    """Adds findings to `splits`: equal pixels anywhere, and photos of two splits that look alike."""
    _find_equal(splits)
    for first, second in combinations(splits, 2):
        for photo, other in _alike(first.photos, second.photos):
            text = f"{photo.file_name} looks like {other.file_name} of {second.split}"
            first.findings.append(Finding(NEARLY_DOUBLED, first.split, text, photo.index))


def _find_equal(splits: Sequence[SplitCheck]) -> None:
    places: dict[str, list[tuple[SplitCheck, PhotoFacts]]] = defaultdict(list)
    for check in splits:
        for photo in check.photos:
            places[photo.content_hash].append((check, photo))
    for (first, photo), *others in places.values():
        for second, other in others:
            kind = DOUBLED if first is second else DOUBLED_ACROSS_SPLITS
            text = f"{other.file_name} is the same photo as {Path(photo.file_name).name} of {first.split}"
            second.findings.append(Finding(kind, second.split, text, other.index))


def _alike(first: Sequence[PhotoFacts], second: Sequence[PhotoFacts]) -> list[tuple[PhotoFacts, PhotoFacts]]:
    """Pairs with few differing likeness bits but other pixels; +-1 products count equal bits in one multiplication."""
    if not first or not second:
        return []
    signs = [np.stack([photo.likeness for photo in photos]).astype(np.float32) * 2 - 1 for photos in (first, second)]
    pairs = []
    for start in range(0, len(first), ROWS_AT_ONCE):
        agreement = signs[0][start : start + ROWS_AT_ONCE] @ signs[1].T
        for row, column in np.argwhere(agreement >= signs[0].shape[1] - 2 * MAX_DIFFERING_BITS):
            photo, other = first[start + row], second[column]
            if photo.content_hash != other.content_hash:
                pairs.append((photo, other))
    return pairs
