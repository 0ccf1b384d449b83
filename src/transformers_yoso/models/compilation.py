"""`torch.compile` of the whole model, one static graph for each size, for GPUs and CPUs alike."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .canvas import SIZE_DIVISOR
from .modeling_outputs_yoso import YosoForUniversalSegmentationOutput
from .modeling_yoso import YosoForUniversalSegmentation


class CompiledForward:
    """A fused model compiled for some sizes; see [`compile_for_inference`].

    Args:
        model (`YosoForUniversalSegmentation`): Fused.
        sizes (`Sequence[tuple[int, int]]`): The buckets, (height, width) in pixels.
    """

    def __init__(self, model: YosoForUniversalSegmentation, sizes: Sequence[tuple[int, int]]) -> None:
        self.model = model
        self.sizes = sorted(sizes, key=lambda size: (size[0] * size[1], size))
        # CUDA graphs take away the time to launch each kernel.
        mode = "reduce-overhead" if model.device.type == "cuda" else "default"
        self._forward = torch.compile(model.forward, mode=mode, dynamic=False, fullgraph=True)

    @torch.inference_mode()
    def __call__(self, pixel_values: Tensor) -> YosoForUniversalSegmentationOutput:
        """
        Args:
            pixel_values (`Tensor` of shape `(B, 3, H, W)`): One of the sizes, or smaller: then it is padded with zeros
                right and bottom to the smallest size that holds it. Another batch size compiles anew.

        Returns:
            The model's outputs, whose `image_sizes` name the part that is image. They are copies, which a later call
            does not overwrite.

        Raises:
            ValueError: if no size holds the images.
        """
        height, width = pixel_values.shape[-2:]
        bucket = next((size for size in self.sizes if size[0] >= height and size[1] >= width), None)
        if bucket is None:
            raise ValueError(
                f"No compiled size of {self.sizes} holds images of {(height, width)}: add one to `sizes`."
            )
        padded = F.pad(pixel_values, (0, bucket[1] - width, 0, bucket[0] - height))
        if self.model.device.type == "cuda":
            torch.compiler.cudagraph_mark_step_begin()
        outputs = self._forward(padded.contiguous(memory_format=torch.channels_last))
        return YosoForUniversalSegmentationOutput(
            class_queries_logits=outputs.class_queries_logits.clone(),
            masks_queries_logits=outputs.masks_queries_logits.clone(),
            last_hidden_state=outputs.last_hidden_state.clone(),
            image_sizes=torch.tensor([[height, width]] * len(pixel_values)),
        )


def compile_for_inference(
    model: YosoForUniversalSegmentation, sizes: Sequence[tuple[int, int]], batch_size: int = 1
) -> Callable[[Tensor], YosoForUniversalSegmentationOutput]:
    """Fuses the model in place, compiles it for each size and runs each once.

    On a GPU each size becomes one CUDA graph. Convert the model to float16 or bfloat16 before. As under `torch.compile`
    in general the whole batch is one canvas: a photo smaller than its bucket gets the result that the released code
    gives with that much padding, so choose buckets near to the sizes of the photos.

    Args:
        model (`YosoForUniversalSegmentation`): In evaluation mode.
        sizes (`Sequence[tuple[int, int]]`): (height, width) in pixels of the padded images, multiples of 32.
        batch_size (`int`): Images a call.

    Returns:
        A function of `pixel_values`, see [`CompiledForward`].

    Raises:
        ValueError: without a size, for sizes that are no multiples of 32, and as [`YosoModel.fuse`] does.
    """
    if not sizes or any(edge < 1 or edge % SIZE_DIVISOR for size in sizes for edge in size):
        raise ValueError(f"`sizes` must be one or more (height, width), multiples of {SIZE_DIVISOR}, got {sizes}.")
    if not model.is_fused:
        model.fuse()
    compiled = CompiledForward(model, sizes)
    for size in compiled.sizes:
        for _ in range(2):  # the second run of a size records its CUDA graph
            compiled(torch.zeros(batch_size, 3, *size, dtype=model.dtype, device=model.device))
    return compiled


__all__ = ["compile_for_inference"]
