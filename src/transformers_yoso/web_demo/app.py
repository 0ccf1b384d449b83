"""The page: photo and controls on the left, overlay, table and downloads on the right."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.data_classes import ImageData
from PIL import Image

from ..inference import SUBTASKS, YosoError, YosoPredictor
from .results import (
    TABLE_COLUMNS,
    PhotoResult,
    Thresholds,
    saved_thresholds,
    segment_photo,
    used_thresholds,
)

KEEP_SECONDS = 3600
THRESHOLD_TEXTS = {
    "threshold": ("Score threshold", "Least score of a segment."),
    "mask_threshold": ("Mask threshold", "Least mask probability of a pixel."),
    "overlap_mask_area_threshold": ("Overlap threshold", "Part of its own mask that a segment must win."),
}


class Callbacks:
    """What the controls call. `predictors` are by the names that the page shows."""

    def __init__(self, predictors: Mapping[str, YosoPredictor]):
        self.predictors = predictors

    def segment(
        self, photo: str | None, checkpoint: str, subtask: str, *thresholds: float
    ) -> tuple[PhotoResult | None, str, list[list[str | int]], str | None, str | None]:
        """Result, summary, table, and the files to download; all empty but the summary without a readable photo."""
        if photo is None:
            return None, "", [], None, None
        try:
            result = segment_photo(self.predictors[checkpoint], photo, subtask, Thresholds(*thresholds))
        except YosoError as error:
            return None, f"⚠️ {error}", [], None, None
        return result, result.summary, result.table, str(result.map_file), str(result.json_file)

    def draw(self, result: PhotoResult | None, alpha: float, draw_labels: bool, legend: bool) -> Image.Image | None:
        """The overlay; does not run the model."""
        if result is None:
            return None
        return result.prediction.draw(alpha=alpha, draw_labels=draw_labels, legend=legend)

    def reset(self, checkpoint: str) -> list[float]:
        """The thresholds saved with a checkpoint."""
        return list(saved_thresholds(self.predictors[checkpoint]))

    def enable(self, subtask: str) -> list[dict[str, Any]]:
        """Locks the sliders of thresholds that the subtask does not use."""
        return [gr.update(interactive=name in used_thresholds(subtask)) for name in Thresholds._fields]


def build_app(predictors: Mapping[str, YosoPredictor], examples: Sequence[str | Path] = ()) -> gr.Blocks:
    """
    The page as a Gradio app, to be launched.

    Args:
        predictors: at least one, by the name to show; the first is used at the start.
        examples: photos that are offered on the page.
    """
    callbacks = Callbacks(predictors)
    first = next(iter(predictors))
    with gr.Blocks(
        title="YOSO panoptic segmentation", analytics_enabled=False, delete_cache=(KEEP_SECONDS, KEEP_SECONDS)
    ) as app:
        gr.Markdown("# YOSO: panoptic segmentation\nUpload a photo or take one. Every pixel gets a segment, or none.")
        with gr.Row():
            with gr.Column():
                photo = photo_input()
                checkpoint = gr.Dropdown(list(predictors), value=first, label="Checkpoint", elem_id="checkpoint")
                subtask = gr.Radio(SUBTASKS, value=SUBTASKS[0], label="Subtask", elem_id="subtask")
                thresholds = threshold_sliders(predictors[first])
                reset = gr.Button("Thresholds of the checkpoint", size="sm", elem_id="reset")
                if examples:
                    gr.Examples([str(path) for path in examples], inputs=photo)
            with gr.Column():
                overlay = gr.Image(
                    label="Overlay",
                    format="png",
                    interactive=False,
                    buttons=["download", "fullscreen"],
                    elem_id="overlay",
                )
                summary = gr.Markdown(elem_id="summary")
                with gr.Row():
                    drawing = drawing_controls()
                with gr.Row():
                    files = [
                        gr.DownloadButton("Map (PNG)", elem_id="download-map"),
                        gr.DownloadButton("Segments (JSON)", elem_id="download-json"),
                    ]
                table = gr.Dataframe(headers=list(TABLE_COLUMNS), label="Segments", elem_id="segments")
        result = gr.State(time_to_live=KEEP_SECONDS)

        segmenting = {
            "fn": callbacks.segment,
            "inputs": [photo, checkpoint, subtask, *thresholds],
            "outputs": [result, summary, table, *files],
        }
        redrawing = {"fn": callbacks.draw, "inputs": [result, *drawing], "outputs": overlay}
        inputs_changed = [photo.change, *(slider.input for slider in thresholds)]
        gr.on(inputs_changed, **segmenting, trigger_mode="always_last").then(**redrawing)
        subtask.input(callbacks.enable, subtask, thresholds).then(**segmenting).then(**redrawing)
        gr.on([checkpoint.input, reset.click], callbacks.reset, checkpoint, thresholds).then(**segmenting).then(
            **redrawing
        )
        gr.on([control.input for control in drawing], **redrawing, trigger_mode="always_last")
    return app


def photo_input() -> gr.Image:
    """Upload, webcam or clipboard; callbacks get the path of the file as it was sent, also of a broken one."""
    photo = gr.Image(label="Photo", sources=["upload", "webcam", "clipboard"], type="filepath", elem_id="photo")
    photo.preprocess = sent_path  # Gradio's own would fail on a broken file with a bare "Error"
    return photo


def sent_path(payload: ImageData | None) -> str | None:
    """Where Gradio has put a file."""
    return None if payload is None else payload.path


def threshold_sliders(predictor: YosoPredictor) -> list[gr.Slider]:
    """A slider for each of `Thresholds`, set to the value saved with the checkpoint."""
    return [
        gr.Slider(0, 1, value, step=0.01, label=label, info=info, buttons=[], elem_id=name)
        for (name, (label, info)), value in zip(THRESHOLD_TEXTS.items(), saved_thresholds(predictor), strict=True)
    ]


def drawing_controls() -> list[gr.components.Component]:
    """Opacity, labels and legend of the overlay."""
    return [
        gr.Slider(0, 1, 0.5, step=0.05, label="Opacity", elem_id="opacity"),
        gr.Checkbox(True, label="Labels", elem_id="labels"),
        gr.Checkbox(False, label="Legend", elem_id="legend"),
    ]
