"""Export of a YOSO checkpoint to one ONNX file that gives panoptic maps."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ..models.modeling_yoso import YosoForUniversalSegmentation
from . import onnx_predict
from .composition import OPSET_VERSION, THRESHOLD_NAMES, compose
from .deformable_sampling import DEFORMABLE_CONVOLUTIONS
from .network_graph import inference_copy, network_graph
from .parity import check_parity

BILINEAR = 2
"""PIL's and Transformers' number of the filter."""


def export_onnx(
    model: YosoForUniversalSegmentation,
    image_processor: Any,
    output_path: str | os.PathLike,
    deformable_conv: str = "native",
) -> Path:
    """Write the model, with panoptic post-processing inside, as one ONNX file (opset 19), checked against torch.

    Batch, height and width are free; a size that is no multiple of 32 is padded inside. The images of a batch share
    one canvas. A copy of `onnx_predict` is laid beside it as `predict.py`, which needs no torch.

    Inputs: `pixel_values` float32 (batch, 3, height, width), normalised; `image_sizes` int64 (batch, 2), height and
    width of each image inside of them, padding left out; `target_size` int64 (2,), height and width of the maps.
    Optional, float64 scalars with the checkpoint's values as defaults: `threshold`, `mask_threshold`,
    `overlap_mask_area_threshold`.

    Outputs: `segmentation` int32 (batch, target height, target width), 0 = void; `segments` int64 (batch, N, 4), a
    row (id, label_id, was_fused, area in pixels) for each segment, then rows of zeros; `segment_scores` float32
    (batch, N); and `class_queries_logits` (batch, N, C + 1) and `masks_queries_logits` (batch, N, h, w), which cost
    nothing unless asked for.

    Args:
        model: Plain or fused, in any mode; a plain copy in evaluation mode is exported, the model is not changed.
        image_processor: A `YosoImageProcessor` or `YosoImageProcessorPil`; its thresholds, stuff labels, sizes and
            normalisation are stored in the file.
        output_path: Ends with ".onnx"; the folder is made.
        deformable_conv: "native" for ONNX's `DeformConv`, which onnxruntime's CPU provider has; "grid_sample" for
            providers without it.

    Returns:
        The path of the file.

    Raises:
        ValueError: for an option that cannot be exported.
        ParityError: onnxruntime and torch disagree; no file is left.
    """
    path = Path(output_path)
    if path.suffix != ".onnx":
        raise ValueError(f"`output_path` must end with '.onnx', but is '{path}'.")
    if deformable_conv not in DEFORMABLE_CONVOLUTIONS:
        raise ValueError(f"`deformable_conv` must be one of {list(DEFORMABLE_CONVOLUTIONS)}, not {deformable_conv!r}.")
    metadata = predictor_metadata(model, image_processor)
    model = inference_copy(model)
    thresholds = {name: float(getattr(image_processor, name)) for name in THRESHOLD_NAMES}
    is_fused = np.isin(np.arange(model.config.num_labels + 1), list(image_processor.label_ids_to_fuse))
    exported = compose(network_graph(model, deformable_conv, OPSET_VERSION), thresholds, is_fused)
    exported.metadata_props.add(key=onnx_predict.METADATA_KEY, value=json.dumps(metadata))

    path.parent.mkdir(parents=True, exist_ok=True)
    unchecked = path.with_name(f".unchecked-{path.name}")
    try:
        onnx.save(exported, unchecked)
        onnx.checker.check_model(str(unchecked), full_check=True)
        check_parity(unchecked, model, image_processor)
        os.replace(unchecked, path)
    finally:
        unchecked.unlink(missing_ok=True)
    shutil.copyfile(onnx_predict.__file__, path.with_name("predict.py"))
    return path


def predictor_metadata(model: YosoForUniversalSegmentation, image_processor: Any) -> dict[str, Any]:
    """What `OnnxPredictor` must know: labels, size, normalisation.

    Raises:
        ValueError: for image processors that do what it does not.
    """
    for name in ("do_resize", "do_rescale", "do_normalize", "do_convert_rgb"):
        if not getattr(image_processor, name):
            raise ValueError(f"An image processor with `{name}=False` cannot be exported; only True can.")
    if int(image_processor.resample) != BILINEAR:
        raise ValueError(f"`resample={image_processor.resample}` cannot be exported; only bilinear ({BILINEAR}) can.")
    if image_processor.pad_size is not None or image_processor.size_divisor != 32:
        raise ValueError("`pad_size`, or a `size_divisor` other than 32, cannot be exported: the graph pads to 32.")
    strangers = sorted(set(image_processor.label_ids_to_fuse) - set(range(model.config.num_labels)))
    if strangers:
        raise ValueError(f"`label_ids_to_fuse` has {strangers}, but the model has {model.config.num_labels} labels.")
    size = dict(image_processor.size)
    return {
        "id2label": model.config.id2label,
        "size": {edge: length for edge, length in size.items() if length is not None},
        "rescale_factor": image_processor.rescale_factor,
        "image_mean": list(image_processor.image_mean),
        "image_std": list(image_processor.image_std),
    }
