"""Writes the README.md of a checkpoint folder from the JSON files of its run, evaluation and measurements.

python scripts/make_model_card.py runs/mine/best --evaluation eval.json --run runs/mine --sample_photo photo.jpg
"""

import argparse
import sys
from pathlib import Path

from transformers_yoso.model_card import push_folder_to_hub, write_model_card


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="Folder with configuration, processor and weights.")
    parser.add_argument("--evaluation", type=Path, help="Scores written by scripts/evaluate.py --output_json.")
    parser.add_argument("--run", type=Path, help="Output folder of the training run.")
    parser.add_argument("--dataset", type=Path, help="JSON with name, license, source, splits; else that of the run.")
    parser.add_argument("--speed", type=Path, help="JSON with hardware and results of a speed measurement.")
    parser.add_argument("--sample_photo", type=Path, help="Photo that is segmented for the card's picture.")
    parser.add_argument("--weights_license", help="Licence of the weights as the Hub names it, e.g. cc-by-4.0.")
    parser.add_argument("--title", help="Default: the folder's name.")
    parser.add_argument("--limits", help="Your own words about what the model does not do.")
    parser.add_argument("--push_to_hub", action="store_true", help="Upload the folder as well.")
    parser.add_argument("--hub_model_id", help="Repository on the Hub (default: the folder's name).")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    try:
        card = write_model_card(
            arguments.checkpoint,
            evaluation=arguments.evaluation,
            run_dir=arguments.run,
            dataset=arguments.dataset,
            speed=arguments.speed,
            sample_photo=arguments.sample_photo,
            weights_license=arguments.weights_license,
            title=arguments.title,
            hub_model_id=arguments.hub_model_id,
            limits=arguments.limits,
        )
        print(f"Wrote {card}")
        if arguments.push_to_hub:
            hub_model_id = arguments.hub_model_id or arguments.checkpoint.resolve().name
            print(f"Uploaded to {push_folder_to_hub(arguments.checkpoint, hub_model_id)}")
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"No model card: {error}")


if __name__ == "__main__":
    main()
