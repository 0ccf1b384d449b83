"""The command of export: `yoso export` and `scripts/export_onnx.py`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from transformers.utils import logging

from ..inference.checkpoint import load_checkpoint
from ..inference.photo_reading import is_photo
from .deformable_sampling import DEFORMABLE_CONVOLUTIONS
from .onnx_export import export_onnx
from .parity import ParityError
from .quantization import quantize_onnx

DESCRIPTION = """Exports a YOSO checkpoint to ONNX, with panoptic post-processing inside, and checks the file against
torch. The folder also gets predict.py, which segments photos without torch:
`python FOLDER/predict.py FOLDER/NAME.onnx photo.jpg --output segments.png`."""


def parse_arguments(arguments: Sequence[str] | None, prog: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=prog, description=DESCRIPTION)
    parser.add_argument("--model_name_or_path", required=True, help="Checkpoint folder or Hub name.")
    parser.add_argument("--output", required=True, type=Path, help="The file, FOLDER/NAME.onnx.")
    parser.add_argument(
        "--deformable_conv",
        choices=list(DEFORMABLE_CONVOLUTIONS),
        default="native",
        help="grid_sample: for execution providers without DeformConv.",
    )
    parser.add_argument(
        "--calibration_photos",
        type=Path,
        help="Folder of training photos: also write NAME_int8.onnx, quantised on them.",
    )
    parser.add_argument("--num_calibration_photos", type=int, default=32)
    return parser.parse_args(arguments)


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> None:
    """Runs the command, called `prog`, with the arguments `argv`; by default those of this process."""
    arguments = parse_arguments(argv, prog)
    logging.disable_progress_bar()  # of loading
    photos = []
    if arguments.calibration_photos is not None:
        files = sorted(arguments.calibration_photos.glob("*"))
        photos = [file for file in files if is_photo(file)][: arguments.num_calibration_photos]
        if not photos:
            sys.exit(f"Not exported: no photo in '{arguments.calibration_photos}'.")
    try:
        model, image_processor = load_checkpoint(arguments.model_name_or_path)
        path = export_onnx(model, image_processor, arguments.output, deformable_conv=arguments.deformable_conv)
        print(f"Wrote {path}, equal to torch in onnxruntime.")
        if photos:
            quantized = path.with_stem(f"{path.stem}_int8")
            print(f"Wrote {quantize_onnx(path, quantized, photos)}, calibrated on {len(photos)} photos.")
    except (ValueError, OSError, ParityError) as error:
        sys.exit(f"Not exported: {error}")
