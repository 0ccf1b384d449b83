"""Model cards made from what was measured, and the upload of a checkpoint folder to the Hub."""

from .card import write_model_card
from .hardware import describe_hardware
from .publishing import push_folder_to_hub
from .reported_quality import ReportedQuality

__all__ = ["ReportedQuality", "describe_hardware", "push_folder_to_hub", "write_model_card"]
