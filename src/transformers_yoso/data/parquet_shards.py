"""A COCO panoptic folder as parquet shards, which stream from a network disk or the Hub."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .readers import CocoPanopticDataset

SEGMENT_FIELDS = ("id", "category_id", "iscrowd")


def write_parquet_shards(
    dataset: CocoPanopticDataset, output_dir: str | Path, split: str, shard_size: int = 512
) -> list[Path]:
    """
    Writes `{split}-00000-of-N.parquet`, ... and `categories.json`, which `open_dataset(..., streaming=True)` opens.

    Photos and maps are copied as they are encoded. Columns: `image`, `label` (COCO panoptic PNG), `segments_info` with
    `id`, `category_id` and `iscrowd`, and `image_id`.

    Args:
        dataset: what to write.
        output_dir: is made if it is missing.
        split: name for the files.
        shard_size: photos in a file.

    Returns:
        The files.

    Raises:
        ValueError: the size is not positive, or the folder holds shards of the split of another number, which would be
            read along.
    """
    import datasets

    if shard_size < 1:
        raise ValueError(f"`shard_size` must be at least 1, got {shard_size}.")
    folder = Path(output_dir)
    count = -(-len(dataset) // shard_size)
    files = [folder / f"{split}-{k:05d}-of-{count:05d}.parquet" for k in range(count)]
    if strangers := sorted(set(folder.glob(f"{split}-*.parquet")) - set(files)):
        raise ValueError(f"{folder} holds other shards of {split!r}, for example {strangers[0].name}; remove them.")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "categories.json").write_text(json.dumps(dataset.categories.to_json()) + "\n", encoding="utf-8")
    features = _features(dataset)
    for k, file in enumerate(files):
        rows = _rows(dataset, range(k * shard_size, min((k + 1) * shard_size, len(dataset))))
        datasets.Dataset.from_list(list(rows), features=features).to_parquet(file)
    return files


def _rows(dataset: CocoPanopticDataset, indices: range) -> Iterator[dict[str, Any]]:
    for index in indices:
        annotation, name = dataset.annotations[index], dataset.image_names[index]
        yield {
            "image": {"bytes": (dataset.image_folder / name).read_bytes(), "path": Path(name).name},
            "label": {"bytes": (dataset.png_folder / annotation["file_name"]).read_bytes(), "path": None},
            "segments_info": [
                {field: info.get(field, 0) for field in SEGMENT_FIELDS} for info in annotation["segments_info"]
            ],
            "image_id": annotation["image_id"],
        }


def _features(dataset: CocoPanopticDataset) -> Any:
    import datasets

    id_type = "int64" if isinstance(dataset.annotations[0]["image_id"], int) else "string"
    return datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.Image(),
            "segments_info": datasets.List({field: datasets.Value("int64") for field in SEGMENT_FIELDS}),
            "image_id": datasets.Value(id_type),
        }
    )
