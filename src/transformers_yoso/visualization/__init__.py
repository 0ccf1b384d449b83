"""Pictures of segmentations. Knows maps and names, not the model."""

from .colors import Color, class_color, coco_colors
from .overlay import draw_panoptic, to_photo

__all__ = ["Color", "class_color", "coco_colors", "draw_panoptic", "to_photo"]
