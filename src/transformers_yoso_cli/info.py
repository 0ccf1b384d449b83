"""`yoso info`: a checkpoint and the machine."""

from typing import TYPE_CHECKING, Annotated

import typer

from .errors import Debug, errors_in_one_line

if TYPE_CHECKING:
    from transformers_yoso import YosoForUniversalSegmentation, YosoImageProcessor

PACKAGES = (
    *("transformers-yoso", "torch", "torchvision", "transformers", "timm", "numpy", "pillow"),
    *("accelerate", "datasets", "pycocotools", "av", "onnxruntime", "supervision"),
)


def info(
    checkpoint: Annotated[
        str | None, typer.Option(help="Folder or Hub name; by default the small one that comes with the package.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Show a checkpoint with its labels, versions and devices."""
    with errors_in_one_line(debug):
        from transformers.utils import logging

        from transformers_yoso.inference import default_checkpoint
        from transformers_yoso.inference.checkpoint import load_checkpoint

        logging.disable_progress_bar()
        name = checkpoint or str(default_checkpoint())
        model, image_processor = load_checkpoint(name)
        row("checkpoint", name if checkpoint else f"{name} (the default)")
        show_checkpoint(model, image_processor)
        show_versions()
        show_devices()


def row(name: str, value: object) -> None:
    typer.echo(f"{name:<13} {value}")


def show_checkpoint(model: "YosoForUniversalSegmentation", image_processor: "YosoImageProcessor") -> None:
    """Network, input size, thresholds and labels."""
    config = model.config
    row("backbone", getattr(config.backbone_config, "backbone", config.backbone_config.model_type))
    row("parameters", f"{model.num_parameters() / 1e6:.2f} M")
    row("queries", config.num_queries)
    row("input size", ", ".join(f"{name} {image_processor.size[name]}" for name in ("shortest_edge", "longest_edge")))
    thresholds = ("threshold", "mask_threshold", "overlap_mask_area_threshold")
    row("thresholds", ", ".join(f"{name} {getattr(image_processor, name)}" for name in thresholds))
    stuff = set(image_processor.label_ids_to_fuse)
    row("labels", f"{len(config.id2label)}: {len(config.id2label) - len(stuff)} things, {len(stuff)} stuff")
    for label_id, label in config.id2label.items():
        row("", f"{label_id:>4}  {'stuff' if label_id in stuff else 'thing'}  {label}")


def show_versions() -> None:
    """Of this package and of those it uses, the optional ones too."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    row("python", platform.python_version())
    for package in PACKAGES:
        try:
            row(package, version(package))
        except PackageNotFoundError:
            row(package, "not installed (optional)")


def show_devices() -> None:
    """What `--device` may name."""
    import torch

    from transformers_yoso.model_card.hardware import cpu_name

    row("device", f"cpu: {cpu_name()}, {torch.get_num_threads()} threads")
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        row("device", f"cuda:{index}: {properties.name}, {properties.total_memory / 2**30:.0f} GiB")
    if torch.backends.mps.is_available():
        row("device", "mps: Apple GPU")
