"""One way to open a dataset in whichever form it comes: by Hub name or folder, in COCO's layout or as a table."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..categories import CategoryTable
from .base import PanopticDataset
from .coco_instances import CocoInstancesDataset
from .coco_panoptic import CocoPanopticDataset
from .row_formats import RowFormat, SegmentsInfoFormat, SemanticInstanceFormat
from .table import StreamedPanopticDataset, TablePanopticDataset
from .table_source import class_names, load_rows, table_splits

COCO_PANOPTIC, COCO_INSTANCES = "coco_panoptic", "coco_instances"
SEGMENTS_INFO, SEMANTIC_INSTANCE = "segments_info", "semantic_instance"
ANNOTATION_FORMATS = (COCO_PANOPTIC, COCO_INSTANCES, SEGMENTS_INFO, SEMANTIC_INSTANCE)
"""COCO folders with panoptic PNGs or instance polygons; tables with COCO ids or with semantic and instance ids."""

_COCO_JSON = {COCO_PANOPTIC: "panoptic", COCO_INSTANCES: "instances"}


def open_dataset(
    dataset_name: str | None = None,
    dataset_config_name: str | None = None,
    *,
    dataset_dir: str | Path | None = None,
    split: str = "train",
    annotation_format: str | None = None,
    categories_file: str | Path | None = None,
    stuff_category_ids: Sequence[int] | None = None,
    image_column_name: str = "image",
    annotation_column_name: str | None = None,
    segments_info_column_name: str = "segments_info",
    do_reduce_labels: bool = False,
    streaming: bool = False,
    shuffle_buffer_size: int = 1000,
    validate: bool = True,
) -> PanopticDataset | StreamedPanopticDataset:
    """
    Opens one split of a panoptic dataset.

    A folder may hold COCO's panoptic layout (`SPLIT/`, `panoptic_SPLIT/`, `panoptic_SPLIT.json`), COCO's instance layout
    (`SPLIT/`, `instances_SPLIT.json`; annotations also in `annotations/`), what `save_to_disk` of `datasets` wrote, parquet
    files, or another form that `datasets.load_dataset` reads.

    Args:
        dataset_name: name on the Hub, or a local folder.
        dataset_config_name: configuration of a dataset on the Hub.
        dataset_dir: local folder; exactly one of `dataset_name` and `dataset_dir` is given.
        split: its name.
        annotation_format: one of `ANNOTATION_FORMATS`; found out from files or columns if not given.
        categories_file: class table of a table (see [`CategoryTable.from_file`]); `categories.json` in the folder, or
            the class names in the table's features, if not given. COCO's files hold their own.
        stuff_category_ids: category ids of stuff, where the class table does not say; may be empty.
        image_column_name: photos.
        annotation_column_name: maps; `label` with a segments column, else `annotation`.
        segments_info_column_name: segments with `id` and `category_id`.
        do_reduce_labels: for semantic and instance ids: semantic id 0 is void and all others are one less before they
            are looked up in the class table.
        streaming: read a table row by row instead of keeping it on disk.
        shuffle_buffer_size: rows that streamed training draws from.
        validate: see [`CocoPanopticDataset`].

    Raises:
        FileNotFoundError: a folder or file does not exist.
        ValueError: the arguments contradict each other, the layout, split, columns or classes are not as needed. The
            message says what was expected, what was found, and what to pass.
    """
    folder, name = _source(dataset_name, dataset_config_name, dataset_dir)
    annotation_format = _coco_format(folder, split, annotation_format)
    if annotation_format in _COCO_JSON:
        if streaming:
            raise ValueError(
                f"{folder}: `streaming` is for tables of `datasets`; a COCO folder is read photo by photo as it is."
            )
        reader = CocoPanopticDataset if annotation_format == COCO_PANOPTIC else CocoInstancesDataset
        return reader.from_folder(folder, split, validate=validate)

    rows = load_rows(folder, name, dataset_config_name, split, streaming)
    source = f"{folder or name} ({split})"
    columns = rows.column_names or list(next(iter(rows), {}))
    if annotation_format is None:
        annotation_format = SEGMENTS_INFO if segments_info_column_name in columns else SEMANTIC_INSTANCE
    categories = _categories(rows, folder, source, categories_file, stuff_category_ids, segments_info_column_name)
    row_format: RowFormat
    if annotation_format == SEGMENTS_INFO:
        row_format = SegmentsInfoFormat(
            image_column_name, annotation_column_name or "label", segments_info_column_name
        )
    else:
        row_format = SemanticInstanceFormat(
            image_column_name, annotation_column_name or "annotation", categories, do_reduce_labels
        )
    if streaming:
        return StreamedPanopticDataset(rows, row_format, categories, source, shuffle_buffer_size)
    return TablePanopticDataset(rows, row_format, categories, source)


def list_splits(
    dataset_name: str | None = None,
    dataset_config_name: str | None = None,
    *,
    dataset_dir: str | Path | None = None,
    annotation_format: str | None = None,
) -> list[str]:
    """Names of the splits that `open_dataset` opens with the same arguments; raises as it does."""
    folder, name = _source(dataset_name, dataset_config_name, dataset_dir)
    found = _coco_splits(folder) if folder else {}
    for known in (annotation_format,) if annotation_format else _COCO_JSON:
        if found.get(known):
            return found[known]
    return table_splits(folder, name, dataset_config_name)


def _source(
    dataset_name: str | None, dataset_config_name: str | None, dataset_dir: str | Path | None
) -> tuple[Path | None, str]:
    """The local folder, or None and the name on the Hub."""
    if (dataset_name is None) == (dataset_dir is None):
        raise ValueError(
            f"Give exactly one of `dataset_name` (on the Hub; got {dataset_name!r}) and `dataset_dir` (a folder; got "
            f"{str(dataset_dir) if dataset_dir else None!r})."
        )
    if dataset_dir is None and not Path(dataset_name).is_dir():
        return None, dataset_name
    folder = Path(dataset_dir if dataset_dir is not None else dataset_name)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder (`dataset_dir`).")
    if dataset_config_name is not None:
        raise ValueError(f"`dataset_config_name` is for datasets on the Hub; {folder} is a local folder.")
    return folder, str(folder)


def _coco_splits(folder: Path) -> dict[str, list[str]]:
    """For each COCO layout the splits whose JSON file lies in `folder` or its `annotations`."""
    return {
        name: sorted(
            {
                file.stem.removeprefix(f"{prefix}_")
                for place in (folder, folder / "annotations")
                for file in place.glob(f"{prefix}_*.json")
                if (folder / file.stem.removeprefix(f"{prefix}_")).is_dir()
            }
        )
        for name, prefix in _COCO_JSON.items()
    }


def _coco_format(folder: Path | None, split: str, annotation_format: str | None) -> str | None:
    """`annotation_format`, or the COCO layout found in the folder, or None for a table."""
    if annotation_format is not None and annotation_format not in ANNOTATION_FORMATS:
        raise ValueError(f"`annotation_format` must be one of {ANNOTATION_FORMATS}, got {annotation_format!r}.")
    if folder is None:
        if annotation_format in _COCO_JSON:
            raise ValueError(f"`annotation_format` {annotation_format!r} needs a local folder as `dataset_dir`.")
        return annotation_format
    if annotation_format is not None:
        return annotation_format
    for name, prefix in _COCO_JSON.items():
        if any((place / f"{prefix}_{split}.json").is_file() for place in (folder, folder / "annotations")):
            return name
    if found := {name: splits for name, splits in _coco_splits(folder).items() if splits}:
        raise ValueError(f"{folder}: no split {split!r}; found {found}.")
    return None


def _categories(
    rows: Any,
    folder: Path | None,
    source: str,
    categories_file: str | Path | None,
    stuff_category_ids: Sequence[int] | None,
    segments_info_column: str,
) -> CategoryTable:
    """The class table of a table: from the given file, the folder's `categories.json`, or the features' class names."""
    if categories_file is None and folder is not None and (folder / "categories.json").is_file():
        categories_file = folder / "categories.json"
    if categories_file is not None:
        return CategoryTable.from_file(categories_file, stuff_category_ids)
    if names := class_names(rows.features, segments_info_column):
        categories = [{"id": k, "name": name} for k, name in enumerate(names)]
        return CategoryTable.from_json(categories, source, stuff_category_ids)
    raise ValueError(
        f"{source}: the classes are not known. Pass `categories_file`, a JSON list of categories with `id`, `name` and "
        "`isthing`, or an id2label table together with `stuff_category_ids`."
    )
