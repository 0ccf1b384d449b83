"""
Writes a checkpoint with the other form of aggregation (paper Observation I): the same outputs, another speed.

python scripts/reparameterize.py --model_name_or_path runs/ifa/best --output_dir checkpoints/cfa
python scripts/reparameterize.py --model_name_or_path checkpoints/yoso-lite0-facade --output_dir ifa --aggregator_type ifa
"""

import argparse
import copy
import sys
from pathlib import Path

import torch

from transformers_yoso import YosoForUniversalSegmentation, YosoImageProcessor

PROBE_SHAPE = (1, 3, 256, 320)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model_name_or_path", required=True, help="Checkpoint folder or Hub name.")
    parser.add_argument("--output_dir", required=True, type=Path, help="Folder to write.")
    parser.add_argument(
        "--aggregator_type",
        choices=("cfa", "ifa"),
        default="cfa",
        help="The form to write: convolution-first, for inference, or interpolation-first.",
    )
    return parser.parse_args()


def load_model(name: str) -> tuple[YosoForUniversalSegmentation, torch.dtype]:
    """The model in float32, and the dtype of the saved weights.

    Raises:
        ValueError: the file holds other weights than the config asks for, such as the bias of a fusion convolution.
    """
    model, loading = YosoForUniversalSegmentation.from_pretrained(name, output_loading_info=True)
    dtype = model.dtype
    if strangers := sorted(loading["unexpected_keys"]) + sorted(loading["missing_keys"]):
        raise ValueError(
            f"the weights of {name} are not those of its config, which knows no biased fusion convolution: "
            f"{', '.join(strangers[:5])} would be lost or made up."
        )
    return model.float(), dtype


def reparameterize(model: YosoForUniversalSegmentation, aggregator_type: str) -> YosoForUniversalSegmentation:
    """A copy of the model with the given form of aggregation."""
    model = copy.deepcopy(model)
    return model.to_convolution_first() if aggregator_type == "cfa" else model.to_interpolation_first()


@torch.no_grad()
def feature_map_difference(one: YosoForUniversalSegmentation, other: YosoForUniversalSegmentation) -> float:
    """Largest difference of the feature maps of noise, relative to the largest entry."""
    noise = torch.randn(PROBE_SHAPE, generator=torch.Generator().manual_seed(0))
    maps = [model.eval().model(noise).feature_map for model in (one, other)]
    return ((maps[0] - maps[1]).abs().max() / maps[0].abs().max()).item()


def main() -> None:
    arguments = parse_arguments()
    try:
        model, dtype = load_model(arguments.model_name_or_path)
        image_processor = YosoImageProcessor.from_pretrained(arguments.model_name_or_path)
        converted = reparameterize(model, arguments.aggregator_type)
    except (ValueError, OSError) as error:
        sys.exit(f"Not re-parameterised: {error}")
    if model.config.aggregator_type == arguments.aggregator_type:
        sys.exit(f"Not re-parameterised: {arguments.model_name_or_path} is {arguments.aggregator_type} already.")
    difference = feature_map_difference(model, converted)
    converted.to(dtype).save_pretrained(arguments.output_dir)
    image_processor.save_pretrained(arguments.output_dir)
    print(
        f"Wrote {arguments.output_dir}, {model.config.aggregator_type} -> {arguments.aggregator_type}; the feature maps "
        f"differ by {difference:.1e} of the largest entry."
    )


if __name__ == "__main__":
    main()
