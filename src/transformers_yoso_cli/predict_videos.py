"""Videos and cameras through the model and into files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from transformers_yoso.inference import YosoError, YosoPredictor
from transformers_yoso.video import FrameResult, VideoReader, predict_video

from .failures import Failures
from .messages import say
from .options import OutputForm, PredictOptions
from .output_folder import OutputFolder


def predict_videos(
    predictor: YosoPredictor,
    videos: Sequence[str | int],
    folder: OutputFolder,
    options: PredictOptions,
    failures: Failures,
) -> None:
    """Segments videos one after the other."""
    for source in videos:
        try:
            segment_one(predictor, source, folder, options)
        except YosoError as error:
            failures.add(source_name(source), error)


def source_name(source: str | int) -> str:
    return f"camera {source}" if isinstance(source, int) else source


def segment_one(predictor: YosoPredictor, source: str | int, folder: OutputFolder, options: PredictOptions) -> None:
    """Segments a video to its end, a camera until Ctrl-C, which is no error there."""
    with VideoReader(source, **options.sampling) as reader:
        outputs = output_files(folder.path, folder.unique_stem(source), options)
        with tqdm(total=reader.num_frames, unit=" frames", disable=None) as bar:
            seen = FrameCount(bar)
            try:
                predict_video(
                    predictor,
                    reader,
                    **outputs,
                    **options.segmentation,
                    **options.drawing,
                    realtime=options.realtime,
                    keep_ids=options.track,
                    codec=options.codec,
                    on_frame=seen,
                )
            except KeyboardInterrupt:
                if not reader.is_live:
                    raise
    dropped = f", {seen.dropped} dropped to keep up" if seen.dropped else ""
    files = ", ".join(str(path) for path in outputs.values())
    say(f"{source_name(source)}: {seen.frames} frames at {seen.fps:.1f} frames/s{dropped} -> {files}")


def output_files(folder: Path, stem: str, options: PredictOptions) -> dict[str, Any]:
    """The arguments of `predict_video` that name files."""
    files = {
        OutputForm.OVERLAY: ("output", folder / f"{stem}_overlay.mp4"),
        OutputForm.COCO: ("panoptic_dir", folder / f"{stem}_panoptic"),
        OutputForm.RLE: ("rle_file", folder / f"{stem}_segments.jsonl"),
    }
    return dict(files[form] for form in OutputForm if form in options.forms)


class FrameCount:
    """Follows a video and moves the progress bar."""

    def __init__(self, bar: tqdm):
        self.bar = bar
        self.frames = self.dropped = 0
        self.fps = 0.0

    def __call__(self, result: FrameResult) -> None:
        self.frames, self.dropped, self.fps = self.frames + 1, result.dropped, result.fps
        self.bar.update()
        if self.dropped:
            self.bar.set_postfix(dropped=self.dropped)
