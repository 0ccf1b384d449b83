"""The dataset checker: every fault of a dataset before training meets it."""

from .dataset_check import check_dataset
from .findings import Finding, Kind, PhotoFacts, SplitCheck
from .photo_check import Limits
from .report import format_report, save_picture_sheet, summarize, to_json

__all__ = [
    "Finding",
    "Kind",
    "Limits",
    "PhotoFacts",
    "SplitCheck",
    "check_dataset",
    "format_report",
    "save_picture_sheet",
    "summarize",
    "to_json",
]
