"""Panoptic segmentation of photos by an exported YOSO model; needs numpy, pillow and onnxruntime only, no torch.

`export_onnx` lays a copy of this file beside the model as `predict.py`:

    python predict.py model.onnx photo.jpg --output segments.png
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

METADATA_KEY = "yoso"


class OnnxPredictor:
    """Reads, resizes and normalises a photo as `YosoImageProcessorPil` does, and runs the exported model on it.

    Args:
        path (`str` or `Path`): The exported file.
        providers (`list[str]`, *optional*): onnxruntime's execution providers by preference, e.g.
            `["CUDAExecutionProvider", "CPUExecutionProvider"]`. Default: the CPU.
        num_threads (`int`, *optional*): CPU threads; default: one for each core.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no export of `transformers_yoso`, or a provider is not installed.
    """

    def __init__(self, path: str | Path, providers: list[str] | None = None, num_threads: int | None = None) -> None:
        if not Path(path).is_file():
            raise FileNotFoundError(f"There is no ONNX file '{path}'.")
        providers = providers or ["CPUExecutionProvider"]
        missing = sorted(set(providers) - set(onnxruntime.get_available_providers()))
        if missing:
            raise ValueError(
                f"onnxruntime has no {', '.join(missing)} here, only {onnxruntime.get_available_providers()}. "
                "CUDA needs the package onnxruntime-gpu."
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads or 0
        options.log_severity_level = 3  # else it warns of each threshold that could have been a constant
        self.session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        metadata = self.session.get_modelmeta().custom_metadata_map
        if METADATA_KEY not in metadata:
            raise ValueError(f"'{path}' is no YOSO model exported by `transformers_yoso.export.export_onnx`.")
        self.metadata: dict[str, Any] = json.loads(metadata[METADATA_KEY])
        self.id2label = {int(label_id): name for label_id, name in self.metadata["id2label"].items()}
        levels = np.arange(256, dtype=np.float64)[:, None] * self.metadata["rescale_factor"]
        mean, std = (np.array(self.metadata[name], dtype=np.float32) for name in ("image_mean", "image_std"))
        self._normalised_levels = (levels.astype(np.float32) - mean) / std

    def __call__(
        self,
        image: Image.Image | np.ndarray | str | Path,
        target_size: tuple[int, int] | None = None,
        threshold: float | None = None,
        mask_threshold: float | None = None,
        overlap_mask_area_threshold: float | None = None,
    ) -> dict[str, Any]:
        """
        Args:
            image: A PIL image, an RGB uint8 array (height, width, 3), or a path.
            target_size: (height, width) in pixels of the map; default: that of the photo, upright by its EXIF tag.
            threshold, mask_threshold, overlap_mask_area_threshold: Instead of the checkpoint's, in [0, 1].

        Returns:
            `segmentation`, int32 (height, width), 0 = void, and `segments_info`, a list of dicts with `id`,
            `label_id`, `was_fused`, `score` and `area` (pixels), as `post_process_panoptic_segmentation` gives it.
        """
        pixels = read_rgb(image)
        pixel_values = self._normalise(pixels)
        inputs = self.graph_inputs(pixel_values, target_size or pixels.size[::-1])
        thresholds = {
            "threshold": threshold,
            "mask_threshold": mask_threshold,
            "overlap_mask_area_threshold": overlap_mask_area_threshold,
        }
        for name, value in thresholds.items():
            if value is not None:
                if not 0 <= value <= 1:
                    raise ValueError(f"`{name}` must lie in [0, 1], but is {value}.")
                inputs[name] = np.array(value, dtype=np.float64)
        outputs = self.session.run(["segmentation", "segments", "segment_scores"], inputs)
        segmentation, segments, scores = (output[0] for output in outputs)
        segments_info = [
            {
                "id": segment_id,
                "label_id": label_id,
                "was_fused": bool(was_fused),
                "score": round(score, 6),
                "area": area,
            }
            for (segment_id, label_id, was_fused, area), score in zip(segments.tolist(), scores.tolist(), strict=True)
            if segment_id
        ]
        return {"segmentation": segmentation, "segments_info": segments_info}

    def preprocess(self, image: Image.Image | np.ndarray | str | Path) -> np.ndarray:
        """A photo -> normalised float32 (1, 3, height, width) at the model's size; the graph itself pads it to 32."""
        return self._normalise(read_rgb(image))

    def graph_inputs(self, pixel_values: np.ndarray, target_size: tuple[int, int]) -> dict[str, np.ndarray]:
        """The graph's inputs for `pixel_values` (B, 3, H, W) without padding and one (height, width) for the maps."""
        if len(target_size) != 2 or min(target_size) < 1:
            raise ValueError(f"`target_size` must be a positive (height, width), but is {target_size}.")
        sizes = np.array([pixel_values.shape[-2:]] * len(pixel_values), dtype=np.int64)
        return {
            "pixel_values": pixel_values,
            "image_sizes": sizes,
            "target_size": np.array(target_size, dtype=np.int64),
        }

    def _normalise(self, pixels: Image.Image) -> np.ndarray:
        width, height = resized_size(pixels.size, self.metadata["size"])
        resized = np.asarray(pixels.resize((width, height), Image.Resampling.BILINEAR))
        pixel_values = np.empty((1, 3, height, width), dtype=np.float32)
        for channel in range(3):
            np.take(self._normalised_levels[:, channel], resized[..., channel], out=pixel_values[0, channel])
        return pixel_values


def read_rgb(image: Image.Image | np.ndarray | str | Path) -> Image.Image:
    """Any photo -> upright RGB; alpha is dropped, grey repeated, 16-bit values are divided by 256.

    Raises:
        ValueError: an array that is not uint8 (height, width, 3).
    """
    if isinstance(image, (str, Path)):
        image = Image.open(image)
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3 or 0 in image.shape:
            raise ValueError(f"An array must be RGB, uint8 (height, width, 3), not {image.dtype} {image.shape}.")
        image = Image.fromarray(image)
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise ValueError("A photo of floating values has no known range: hand in 8 or 16 bits a channel.")
    if image.mode.startswith("I"):
        values = np.asarray(image)
        image = Image.fromarray(
            (values // 256 if image.mode != "I" or values.max() > 255 else values).astype(np.uint8)
        )
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def resized_size(image_size: tuple[int, int], size: dict[str, int]) -> tuple[int, int]:
    """(width, height) of a photo -> that of the resized one, by the image processor's `size`."""
    if "height" in size:
        return size["width"], size["height"]
    shortest, longest = size["shortest_edge"], size.get("longest_edge")
    scale = shortest / min(image_size)
    edges = [shortest if edge == min(image_size) else scale * edge for edge in image_size]
    if longest and max(edges) > longest:
        scale = longest / max(edges)
        edges = [edge * scale for edge in edges]
    width, height = (max(1, int(edge + 0.5)) for edge in edges)
    return width, height


def colour_segments(segmentation: np.ndarray) -> Image.Image:
    """An id map -> a picture with one colour a segment and black void."""
    colours = np.random.default_rng(0).integers(64, 256, (int(segmentation.max()) + 1, 3), dtype=np.uint8)
    colours[0] = 0
    return Image.fromarray(colours[segmentation])


def main() -> None:
    parser = argparse.ArgumentParser(description="Segments a photo with an exported YOSO model.")
    parser.add_argument("model", type=Path, help="The exported ONNX file.")
    parser.add_argument("photo", type=Path)
    parser.add_argument("--output", type=Path, help="Picture of the segments, in colours.")
    parser.add_argument("--threshold", type=float, help="Least class probability, instead of the checkpoint's.")
    parser.add_argument("--providers", nargs="+", help="onnxruntime's execution providers; default: the CPU.")
    arguments = parser.parse_args()
    predictor = OnnxPredictor(arguments.model, arguments.providers)
    result = predictor(arguments.photo, threshold=arguments.threshold)
    for segment in result["segments_info"]:
        name = predictor.id2label[segment["label_id"]]
        print(f"{segment['id']:4d}  {name:30s} score {segment['score']:.3f}  {segment['area']} pixels")
    if arguments.output is not None:
        colour_segments(result["segmentation"]).save(arguments.output)


if __name__ == "__main__":
    main()
