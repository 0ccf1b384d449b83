"""A number that somebody else published, kept apart from what was measured here."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ReportedQuality:
    """
    Panoptic quality from a publication.

    Attributes:
        panoptic_quality: PQ in per cent.
        setting: split and test size it was reported for, for example "val, test size 800, 1333".
        source_name, source_url: the publication.
    """

    panoptic_quality: float
    setting: str
    source_name: str
    source_url: str
