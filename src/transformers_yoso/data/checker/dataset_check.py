"""Checks whole splits of a dataset against what training and evaluation need."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from ..readers import PanopticDataset
from .duplicates import find_duplicates
from .findings import (
    ANNOTATION,
    NO_SEGMENTS_OF_CLASS,
    ONE_KIND_ONLY,
    OTHER_CLASSES,
    UNOPENABLE,
    Finding,
    SplitCheck,
)
from .photo_check import Limits, PhotoChecks


def check_dataset(
    open_split: Callable[[str], PanopticDataset],
    splits: Sequence[str],
    limits: Limits,
    *,
    model_labels: Mapping[int, str] | None = None,
    num_workers: int = 0,
) -> list[SplitCheck]:
    """
    Looks at every photo of every split and lists all faults; it never stops at one.

    Args:
        open_split: gives the dataset of a split, opened with `validate=False`.
        splits: their names.
        limits: what is taken as normal.
        model_labels: names by label id of a checkpoint that the classes must agree with.
        num_workers: processes that decode.

    Returns:
        One result per split.
    """
    checks = [_check_split(open_split, split, limits, num_workers) for split in splits]
    find_duplicates(checks)
    _compare_classes(checks, model_labels)
    return checks


def _check_split(
    open_split: Callable[[str], PanopticDataset], split: str, limits: Limits, num_workers: int
) -> SplitCheck:
    try:
        dataset = open_split(split)
    except (ValueError, OSError) as error:
        return SplitCheck(split, "", findings=[Finding(UNOPENABLE, split, str(error))])
    categories = dataset.categories
    check = SplitCheck(split, dataset.source, categories.id2label, categories.stuff_label_ids, len(dataset))
    check.findings.extend(Finding(ANNOTATION, split, text) for text in dataset.annotation_problems())
    loader = DataLoader(
        PhotoChecks(dataset, split, limits),
        batch_size=None,
        num_workers=num_workers,
        generator=torch.Generator(),
    )
    for findings, facts in tqdm(loader, desc=f"checking {split}", unit="photo", disable=None):
        check.findings.extend(findings)
        if facts is not None:
            check.photos.append(facts)
    if unused := _unused_classes(check):
        text = f"{len(unused)} of {len(check.id2label)} classes: {', '.join(unused)}"
        check.findings.append(Finding(NO_SEGMENTS_OF_CLASS, split, text))
    if missing := _missing_kind(check):
        check.findings.append(Finding(ONE_KIND_ONLY, split, missing))
    return check


def _unused_classes(check: SplitCheck) -> list[str]:
    used: Counter[int] = sum((photo.segments for photo in check.photos), Counter())
    return [name for label, name in check.id2label.items() if not used[label]]


def _missing_kind(check: SplitCheck) -> str | None:
    if not check.stuff_label_ids:
        return "all classes are things: PQ of stuff cannot be computed"
    if len(check.stuff_label_ids) == len(check.id2label):
        return "all classes are stuff: PQ of things and AP cannot be computed"
    return None


def _compare_classes(checks: Sequence[SplitCheck], model_labels: Mapping[int, str] | None) -> None:
    opened = [check for check in checks if check.id2label]
    for check in opened:
        if (check.id2label, check.stuff_label_ids) != (opened[0].id2label, opened[0].stuff_label_ids):
            text = f"{check.source} lists other classes than {opened[0].source}"
            check.findings.append(Finding(OTHER_CLASSES, check.split, text))
        if model_labels is not None:
            if unknown := sorted(set(check.id2label.values()) - set(model_labels.values())):
                text = f"{check.source}: the checkpoint does not know the classes {unknown}"
                check.findings.append(Finding(OTHER_CLASSES, check.split, text))
            elif dict(model_labels) != check.id2label:
                text = f"{check.source}: the checkpoint has other classes besides, or another order"
                check.findings.append(Finding(OTHER_CLASSES, check.split, text))
