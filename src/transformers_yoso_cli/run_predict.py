"""`yoso predict`: from inputs to a summary."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from transformers.utils import logging

from transformers_yoso.inference import YosoPredictor, default_checkpoint
from transformers_yoso.inference.checkpoint import size_of_edges
from transformers_yoso.inference.coco import import_coco_mask

from .failures import Failures
from .inputs import find_inputs
from .messages import say
from .options import ModelOptions, OutputForm, PredictOptions
from .output_folder import OutputFolder
from .predict_photos import predict_photos
from .predict_videos import predict_videos


def run_predict(
    arguments: Sequence[str], output_dir: Path, model_options: ModelOptions, options: PredictOptions, debug: bool
) -> bool:
    """
    Segments all inputs; whether none failed. With `debug` the traceback of each failure is shown.

    Raises:
        YosoError, ValueError: what keeps the whole command from starting, or a file that cannot be written.
    """
    inputs = find_inputs(arguments, sys.stdin)
    if OutputForm.RLE in options.forms:
        import_coco_mask()
    folder = OutputFolder(output_dir)
    predictor = load_predictor(model_options)
    failures = Failures(len(inputs.photos) + len(inputs.videos), debug)
    if inputs.photos:
        start = time.perf_counter()
        num_done = predict_photos(predictor, inputs.photos, folder, options, failures)
        seconds = time.perf_counter() - start
        if num_done:
            say(f"{num_done} of {len(inputs.photos)} photos in {seconds:.1f} s ({num_done / seconds:.1f} photos/s)")
    predict_videos(predictor, inputs.videos, folder, options, failures)
    failures.report()
    return not failures


def load_predictor(options: ModelOptions) -> YosoPredictor:
    """
    The checkpoint on its device; says which one if none was named.

    Raises:
        CheckpointError: no checkpoint there, or one of another model.
        ValueError: a senseless size, a device that is not there.
    """
    logging.disable_progress_bar()
    name = options.checkpoint
    if name is None:
        name = str(default_checkpoint())
        say(f"Default checkpoint (photos of building facades): {name}")
    processor_kwargs = {} if options.size is None else {"size": size_of_edges(options.size)}
    return YosoPredictor.from_pretrained(name, device=options.device, dtype=options.dtype, **processor_kwargs)
