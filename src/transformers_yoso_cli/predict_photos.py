"""Photos through the model and into files."""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from tqdm import tqdm

from transformers_yoso.inference import (
    CocoPanopticWriter,
    OutputError,
    Prediction,
    RleLinesWriter,
    YosoPredictor,
)
from transformers_yoso.inference.errors import one_line

from .failures import Failures
from .messages import say
from .options import OutputForm, PredictOptions
from .output_folder import OutputFolder

Write = Callable[[Prediction, str], Path]
"""Writes a prediction under a stem; returns the file."""


def predict_photos(
    predictor: YosoPredictor,
    photos: Sequence[str],
    folder: OutputFolder,
    options: PredictOptions,
    failures: Failures,
) -> int:
    """Segments photos, writes what was asked for and a line each; returns how many could be read."""
    num_done = 0
    with ExitStack() as files:
        writers = open_writers(predictor, folder.path, options, files)
        results = predictor.stream(photos, batch_size=options.batch_size, on_error="return", **options.segmentation)
        files.enter_context(results)
        bar = files.enter_context(tqdm(total=len(photos), unit=" photos", disable=None))
        for source, result in zip(photos, results, strict=True):
            if result:
                num_done += 1
                stem = folder.unique_stem(source)
                written = dict.fromkeys(write(result, stem) for write in writers)
                say(f"{source}: {count_segments(result)} -> {', '.join(map(str, written))}")
            else:
                failures.add(source, result.error)
            bar.update()
    return num_done


def open_writers(predictor: YosoPredictor, folder: Path, options: PredictOptions, files: ExitStack) -> list[Write]:
    """A function for each form of output; `files` closes what they write to."""
    writers: list[Write] = []
    if OutputForm.OVERLAY in options.forms:
        writers.append(partial(write_overlay, folder, options))
    if OutputForm.COCO in options.forms:
        coco = CocoPanopticWriter(folder / "panoptic", predictor.id2label, predictor.stuff_label_ids)
        writers.append(partial(write_panoptic, files.enter_context(coco)))
    if OutputForm.RLE in options.forms:
        path = folder / "segments.jsonl"
        writers.append(partial(write_run_lengths, files.enter_context(RleLinesWriter(path)), path))
    return writers


def write_overlay(folder: Path, options: PredictOptions, prediction: Prediction, stem: str) -> Path:
    path = folder / f"{stem}_overlay.jpg"
    try:
        prediction.draw(**options.drawing, legend=options.legend).save(path, quality=95, subsampling=0)
    except OSError as error:
        raise OutputError(f"Cannot write {path} ({one_line(error)}).") from error
    return path


def write_panoptic(coco: CocoPanopticWriter, prediction: Prediction, stem: str) -> Path:
    coco.write(prediction, png_name=f"{stem}.png")
    return coco.folder / f"{stem}.png"


def write_run_lengths(lines: RleLinesWriter, path: Path, prediction: Prediction, stem: str) -> Path:
    lines.write(prediction)
    return path


def count_segments(prediction: Prediction) -> str:
    """Number of segments of each class, the most frequent first."""
    counts = Counter(segment.label for segment in prediction.segments)
    return ", ".join(f"{count} {label}" for label, count in counts.most_common()) or "no segments"
