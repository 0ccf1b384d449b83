"""Draws augmented samples of one photo with the outlines of their segments, to see that these sit on the objects."""

import argparse
from pathlib import Path

from transformers_yoso.data import AugmentedDataset, SampleKey, TrainingAugmentation, open_dataset
from transformers_yoso.data.drawing import draw_sample
from transformers_yoso.picture_sheet import Tile, save_sheet

COLUMNS = 4


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset_dir", required=True, help="Local folder with the dataset.")
    parser.add_argument("--split", default="train")
    parser.add_argument("--index", type=int, default=0, help="Place of the photo in the split.")
    parser.add_argument("--output", type=Path, default=Path("outputs/augmentation.png"), help="Picture file.")
    parser.add_argument("--num_samples", type=int, default=11, help="Augmented samples beside the photo itself.")
    parser.add_argument("--crop_size", type=int, nargs="+", default=[512], help="Height and width, or one side.")
    parser.add_argument("--scale_range", type=float, nargs=2, help="Large-scale jitter, relative to the crop.")
    parser.add_argument("--shortest_edges", type=int, nargs="+", help="Instead of the jitter: sizes to choose from.")
    parser.add_argument("--longest_edge", type=int, help="Cap with --shortest_edges.")
    parser.add_argument("--single_category_max_area", type=float, default=1.0)
    parser.add_argument("--color_distortion", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    dataset = open_dataset(dataset_dir=arguments.dataset_dir, split=arguments.split)
    augmentation = TrainingAugmentation(
        arguments.crop_size[0] if len(arguments.crop_size) == 1 else arguments.crop_size,
        arguments.scale_range,
        arguments.color_distortion,
        shortest_edges=arguments.shortest_edges,
        longest_edge=arguments.longest_edge,
        single_category_max_area=arguments.single_category_max_area,
    )
    augmented = AugmentedDataset(dataset, augmentation, arguments.seed)
    samples = {"photo": dataset[arguments.index]}
    for epoch in range(arguments.num_samples):
        samples[f"epoch {epoch}"] = augmented[SampleKey(epoch, arguments.index)]
    tiles = [
        Tile(
            draw_sample(sample, dataset.categories.id2label, draw_labels=False),
            f"{name}: {sample.num_segments} segments, {sample.image.shape[1]}x{sample.image.shape[2]}",
        )
        for name, sample in samples.items()
    ]
    rows = [tiles[start : start + COLUMNS] for start in range(0, len(tiles), COLUMNS)]
    save_sheet(rows, arguments.output, Path(samples["photo"].file_name).name)
    print(f"{len(tiles)} pictures: {arguments.output}")


if __name__ == "__main__":
    main()
