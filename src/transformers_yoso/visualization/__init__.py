"""Pictures of segmentations. Knows maps and names, not the model."""

from .colors import Color, class_color, coco_colors, named_colors
from .overlay import draw_panoptic, to_photo
from .segment_maps import outline_mask

__all__ = ["Color", "class_color", "coco_colors", "draw_panoptic", "named_colors", "outline_mask", "to_photo"]
