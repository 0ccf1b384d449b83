"""Makes a video out of photos, each panned and zoomed over for a while (`make_test_video.py PHOTO... --output x.mp4`)."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

SECONDS_PER_PHOTO = 5.0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path, nargs="+")
    parser.add_argument("--output", type=Path, required=True, help="video: .mp4, .mov, .mkv or .webm")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--fps", type=int, default=25)
    parser.add_argument("--size", type=int, nargs=2, default=(1280, 720), metavar=("WIDTH", "HEIGHT"))
    return parser.parse_args()


def pan_and_zoom(
    photos: Sequence[Path], seconds: float, fps: int, size: tuple[int, int]
) -> Iterator[tuple[Image.Image, float]]:
    """Pictures of `size` (width, height) and their times: a window that moves right and grows over photo after photo."""
    photo, opened = None, None
    for index in range(round(seconds * fps)):
        time = index / fps
        position, progress = divmod(time / SECONDS_PER_PHOTO, 1.0)
        path = photos[int(position) % len(photos)]
        if path != opened:
            photo, opened = Image.open(path).convert("RGB"), path
        yield photo.resize(size, Image.Resampling.BILINEAR, box=window(photo.size, size, progress)), time


def window(photo_size: tuple[int, int], size: tuple[int, int], progress: float) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of the window at `progress` in [0, 1]: 70 to 90 % of the widest that fits the aspect."""
    scale = (0.7 + 0.2 * progress) * min(photo_size[0] / size[0], photo_size[1] / size[1])
    width, height = scale * size[0], scale * size[1]
    left, top = progress * (photo_size[0] - width), 0.5 * (photo_size[1] - height)
    return left, top, left + width, top + height


def main() -> None:
    arguments = parse_arguments()
    from transformers_yoso.video import VideoWriter

    with VideoWriter(arguments.output, arguments.fps) as video:
        for picture, time in pan_and_zoom(arguments.photos, arguments.seconds, arguments.fps, tuple(arguments.size)):
            video.write(picture, time)


if __name__ == "__main__":
    main()
