"""What passes through the transforms beside photo and map."""

from torchvision import tv_tensors


class ClassLabels(tv_tensors.TVTensor):
    """Label ids of the map's segments, int64 `(num_segments,)`; no transform changes them, but a crop looks at them."""
