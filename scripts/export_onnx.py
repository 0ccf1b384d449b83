"""Exports a YOSO checkpoint to ONNX, with panoptic post-processing inside, and checks the file against torch.

python scripts/export_onnx.py --model_name_or_path checkpoints/yoso-lite0-facade --output onnx/model.onnx
python onnx/predict.py onnx/model.onnx photo.jpg --output segments.png   # needs no torch

With --calibration_photos the folder also gets model_int8.onnx.
"""

import argparse
import sys
from pathlib import Path

from transformers_yoso import YosoForUniversalSegmentation
from transformers_yoso.export import ParityError, export_onnx, quantize_onnx
from transformers_yoso.export.deformable_sampling import DEFORMABLE_CONVOLUTIONS
from transformers_yoso.models.image_processing_yoso import YosoImageProcessor

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    photos = []
    if arguments.calibration_photos is not None:
        files = sorted(arguments.calibration_photos.glob("*"))
        photos = [file for file in files if file.suffix.lower() in PHOTO_SUFFIXES][: arguments.num_calibration_photos]
        if not photos:
            sys.exit(f"Not exported: no photo ({', '.join(PHOTO_SUFFIXES)}) in '{arguments.calibration_photos}'.")
    try:
        model = YosoForUniversalSegmentation.from_pretrained(arguments.model_name_or_path)
        image_processor = YosoImageProcessor.from_pretrained(arguments.model_name_or_path)
        path = export_onnx(model, image_processor, arguments.output, deformable_conv=arguments.deformable_conv)
        print(f"Wrote {path}, equal to torch in onnxruntime.")
        if photos:
            quantized = path.with_stem(f"{path.stem}_int8")
            print(f"Wrote {quantize_onnx(path, quantized, photos)}, calibrated on {len(photos)} photos.")
    except (ValueError, OSError, ParityError) as error:
        sys.exit(f"Not exported: {error}")


if __name__ == "__main__":
    main()
