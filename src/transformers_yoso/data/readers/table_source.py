"""Tables of the `datasets` library from the Hub, parquet files, `save_to_disk` folders and folders with metadata."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .coco_json import first_names

if TYPE_CHECKING:
    import datasets

_TABLE_FILES = ("parquet", "arrow", "jsonl", "csv", "tar")
_VALIDATION_NAMES = ("validation", "val")
EXPECTED_LAYOUTS = (
    "COCO panoptic (SPLIT/, panoptic_SPLIT/, panoptic_SPLIT.json), COCO instances (SPLIT/, instances_SPLIT.json), a "
    "`save_to_disk` folder, parquet files, or photos with a metadata.jsonl"
)


def load_rows(
    folder: Path | None, name: str, config_name: str | None, split: str, streaming: bool
) -> "datasets.Dataset | datasets.IterableDataset":
    """
    One split as a table, or as a stream.

    Args:
        folder: local folder, or None for the Hub.
        name: the folder's or the Hub's name.
        config_name: configuration on the Hub.
        split: its name; `val` and `validation` stand for each other.
        streaming: give a stream.

    Raises:
        ValueError: no such dataset, layout or split. The message says what was expected and what was found.
    """
    import datasets

    if folder is not None and (saved := _saved_splits(folder)):
        rows = datasets.load_from_disk(str(saved[_match_split(split, list(saved), name)]))
        return rows.to_iterable_dataset(num_shards=max(1, min(len(rows) // 64, 64))) if streaming else rows
    split = _match_split(split, table_splits(folder, name, config_name), name)
    return datasets.load_dataset(name, config_name, split=split, streaming=streaming)


def table_splits(folder: Path | None, name: str, config_name: str | None) -> list[str]:
    """Names of a table's splits; raises as `load_rows` does."""
    import datasets

    if folder is not None:
        if saved := _saved_splits(folder):
            return list(saved)
        if not any(next(folder.rglob(f"*.{suffix}"), None) for suffix in _TABLE_FILES):
            raise ValueError(
                f"{folder}: no dataset of a known layout. Expected {EXPECTED_LAYOUTS}; found {first_names(folder)}. "
                "(Official folders of Cityscapes, ADE20K and Mapillary Vistas: scripts/arrange_dataset.py makes the first "
                "layout of them.)"
            )
    try:
        return datasets.get_dataset_split_names(name, config_name)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"The dataset {name!r} cannot be opened ({type(error).__name__}: {error}). Check the name and "
            "`dataset_config_name`, or pass a local folder as `dataset_dir`."
        ) from error


def class_names(features: Any, segments_info_column: str) -> list[str]:
    """Names of the `category_id` of segments, if the table's features hold them."""
    import datasets

    segment = (features or {}).get(segments_info_column)
    segment = getattr(segment, "feature", segment)
    segment = segment[0] if isinstance(segment, list) else segment
    category = segment.get("category_id") if isinstance(segment, dict) else None
    category = getattr(category, "feature", category)
    return list(category.names) if isinstance(category, datasets.ClassLabel) else []


def _saved_splits(folder: Path) -> dict[str, Path]:
    """Folders that `save_to_disk` wrote, by split: those of a `DatasetDict`, or the folder itself as `train`."""
    if (folder / "state.json").is_file():
        return {"train": folder}
    return {file.parent.name: file.parent for file in sorted(folder.glob("*/state.json"))}


def _match_split(split: str, available: list[str], name: str) -> str:
    if split in available:
        return split
    if split in _VALIDATION_NAMES:
        for other in _VALIDATION_NAMES:
            if other in available:
                return other
    raise ValueError(f"{name}: no split {split!r}; found {available}.")
