"""Segments a photo with a trained YOSO through Transformers' pipeline and draws the result (`make demo`)."""

import argparse
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from PIL import Image, UnidentifiedImageError

ROOT = Path(__file__).resolve().parents[1]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image", type=Path, nargs="?", default=ROOT / "assets/facade_demo.jpg", help="photo")
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "checkpoints/yoso-lite0-facade", help="model folder")
    parser.add_argument("--output", type=Path, default=ROOT / "outputs/demo_overlay.png", help="overlay picture")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    photo = read_photo(arguments.image)
    check_output(arguments.output)

    start = time.perf_counter()
    pipe = load_pipeline(arguments.checkpoint)
    loaded = time.perf_counter()
    segments = pipe(photo)
    segmented = time.perf_counter()
    overlay = draw_overlay(photo, segments, pipe.model.config)
    drawn = time.perf_counter()

    print_segments(segments, photo, arguments.image)
    print(
        f"\nSegmented in {segmented - loaded:.2f} s on {pipe.device} "
        f"(before it: importing and loading, {loaded - start:.1f} s; after it: drawing, {drawn - segmented:.2f} s)."
    )
    try:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        overlay.save(arguments.output)
    except OSError as error:
        fail(f"cannot write {arguments.output}: {error}")
    print(f"Overlay: {arguments.output}")


def fail(message: str) -> NoReturn:
    """Ends the script with one line and exit code 2."""
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)


def read_photo(path: Path) -> Image.Image:
    """An RGB photo, upright by its EXIF tag, with 8 bits a channel."""
    from transformers_yoso.models.image_inputs import read_image

    try:
        with Image.open(path) as image:
            return Image.fromarray(read_image(image).permute(1, 2, 0).numpy())
    except FileNotFoundError:
        fail(f"there is no file {path}")
    except UnidentifiedImageError:
        fail(f"{path} is no image, or of a format that Pillow cannot read")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        fail(f"{path} cannot be read as an image: {error}")


def check_output(path: Path) -> None:
    if path.suffix.lower() not in Image.registered_extensions():
        fail(f"the overlay must go to a picture file such as overlay.png, not {path}")


def load_pipeline(checkpoint: Path) -> Any:
    """The image segmentation pipeline of a model folder."""
    if not (checkpoint / "config.json").is_file():
        fail(f"{checkpoint} is no model folder (it has no config.json); name one with --checkpoint")
    if not any(checkpoint.glob("*.safetensors")):
        fail(f"the model folder {checkpoint} has no weights (no *.safetensors)")
    from transformers import pipeline
    from transformers.utils import logging

    import transformers_yoso  # noqa: F401  (registers YOSO with the auto classes)

    logging.disable_progress_bar()
    try:
        return pipeline("image-segmentation", model=str(checkpoint))
    except (OSError, ValueError) as error:
        fail(f"cannot load the model in {checkpoint}: {error}")


def draw_overlay(photo: Image.Image, segments: list[dict[str, Any]], config: Any) -> Image.Image:
    """The photo with the pipeline's segments drawn over it."""
    import numpy as np

    from transformers_yoso.visualization import draw_panoptic, named_colors

    segmentation = np.zeros((photo.height, photo.width), dtype=np.int32)
    segments_info = []
    for segment_id, segment in enumerate(segments, start=1):
        segmentation[np.asarray(segment["mask"]) > 0] = segment_id
        segments_info.append(
            {"id": segment_id, "label_id": config.label2id[segment["label"]], "score": segment["score"]}
        )
    colors = named_colors(config.id2label, config.label_colors)
    return draw_panoptic(photo, segmentation, segments_info, config.id2label, colors=colors)


def print_segments(segments: list[dict[str, Any]], photo: Image.Image, path: Path) -> None:
    """A table of the segments, largest first."""
    pixels = photo.width * photo.height
    areas = [segment["mask"].histogram()[255] for segment in segments]
    print(f"\n{path}, {photo.width} x {photo.height} pixels, {len(segments)} segments\n")
    width = max([len(segment["label"]) for segment in segments], default=5)
    print(f"{'label':<{width}}  score   area px  area %")
    for area, segment in sorted(zip(areas, segments, strict=True), key=lambda pair: -pair[0]):
        print(f"{segment['label']:<{width}}  {segment['score']:5.2f}  {area:>8}  {100 * area / pixels:6.2f}")
    void = pixels - sum(areas)
    print(f"{'(void)':<{width}}         {void:>8}  {100 * void / pixels:6.2f}")


if __name__ == "__main__":
    main()
