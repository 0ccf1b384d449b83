"""`yoso predict`: its options."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from .errors import EXIT_SOME_FAILED, Debug, errors_in_one_line
from .options import ModelOptions, OutputForm, PredictOptions


def predict(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT",
            help="Photos, videos, folders, globs, URLs, the number of a camera, or - for a list of paths on stdin.",
        ),
    ],
    checkpoint: Annotated[
        str | None, typer.Option(help="Folder or Hub name; by default the small one that comes with the package.")
    ] = None,
    output_dir: Annotated[Path, typer.Option("--output-dir", "-o", help="Is made if it is not there.")] = Path(
        "outputs"
    ),
    forms: Annotated[
        list[OutputForm],
        typer.Option(
            "--format",
            "-f",
            help="What to write; may be given several times. overlay: the photo or video with its segments; coco: COCO "
            "panoptic PNG and JSON; rle: JSON lines with run lengths.",
        ),
    ] = [OutputForm.OVERLAY],  # noqa: B006
    subtask: Annotated[Literal["panoptic", "instance", "semantic"], typer.Option(help="Kind of segmentation.")] = (
        "panoptic"
    ),
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Least score of a segment; by default the checkpoint's.")
    ] = None,
    mask_threshold: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Least mask probability of a pixel; by default the checkpoint's."),
    ] = None,
    overlap_mask_area_threshold: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Panoptic: part of its mask that a segment must win; the checkpoint's."),
    ] = None,
    size: Annotated[
        tuple[int, int] | None,
        typer.Option(metavar="SHORTEST LONGEST", help="Edges in pixels at the model's input; the checkpoint's."),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, mps; by default the GPU if CUDA has one.")
    ] = None,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"], typer.Option(help="Precision of the weights.")
    ] = "float32",
    batch_size: Annotated[int, typer.Option(min=1, help="Photos that go through the model at once.")] = 1,
    alpha: Annotated[float, typer.Option(min=0, max=1, help="Opacity of the colours.")] = 0.5,
    labels: Annotated[bool, typer.Option(help="Write names into the segments.")] = True,
    legend: Annotated[bool, typer.Option("--legend", help="A strip with all classes under each photo.")] = False,
    stride: Annotated[int, typer.Option(min=1, help="Video: take every n-th frame.")] = 1,
    max_fps: Annotated[float | None, typer.Option(help="Video: take at most so many frames a second.")] = None,
    realtime: Annotated[
        bool | None,
        typer.Option(help="Video: drop frames rather than lag behind; by default for cameras and streams only."),
    ] = None,
    track: Annotated[bool, typer.Option(help="Video: keep ids and colours from frame to frame.")] = True,
    codec: Annotated[str | None, typer.Option(help="Video: FFmpeg's name of the encoder; by default libx264.")] = None,
    debug: Debug = False,
) -> None:
    """
    Segment photos, videos or a camera.

    A camera is read until Ctrl-C. Goes on over files that cannot be read and lists them at the end. Exit code: 0 if all
    went well, 1 if some failed, 2 if something stopped the whole run.
    """
    options = PredictOptions(
        forms=frozenset(forms),
        segmentation={
            "subtask": subtask,
            "threshold": threshold,
            "mask_threshold": mask_threshold,
            "overlap_mask_area_threshold": overlap_mask_area_threshold,
        },
        batch_size=batch_size,
        drawing={"alpha": alpha, "draw_labels": labels},
        legend=legend,
        sampling={"stride": stride, "max_fps": max_fps},
        realtime=realtime,
        track=track,
        codec=codec,
    )
    with errors_in_one_line(debug):
        from .run_predict import run_predict

        if not run_predict(inputs, output_dir, ModelOptions(checkpoint, size, device, dtype), options, debug):
            raise typer.Exit(EXIT_SOME_FAILED)
