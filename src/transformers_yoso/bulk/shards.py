"""A dataset as shards of photos without annotations: photo files in groups, or the files of a table."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Protocol

from ..data.readers.table import keep_encoded
from ..data.readers.table_source import load_rows
from ..inference.photo_reading import is_photo

if TYPE_CHECKING:
    import datasets


@dataclass(frozen=True)
class Photo:
    """
    Attributes:
        image_id: COCO's number or a text, unique in the dataset.
        file_name: for the JSON's `images`.
        source: path, encoded bytes or another form that `YosoPredictor` takes.
    """

    image_id: int | str
    file_name: str
    source: Any


class Shard(Protocol):
    """A fixed part of a dataset, the same at every start of a job."""

    @property
    def name(self) -> str:
        """Unique in the dataset, and a name that a folder can have."""

    @property
    def contents(self) -> str:
        """Tells which photos are in it, as far as that is known without reading them."""

    def __iter__(self) -> Iterator[Photo]: ...


@dataclass(frozen=True)
class FileShard:
    """Photo files; ids are their names within `root`, as numbers where they are (COCO)."""

    name: str
    root: Path
    files: Sequence[Path]

    @property
    def contents(self) -> str:
        """Number of files, and a digest of their names."""
        names = "\n".join(file.relative_to(self.root).as_posix() for file in self.files)
        return f"({len(self.files)} files, {hashlib.sha256(names.encode()).hexdigest()[:12]})"

    def __iter__(self) -> Iterator[Photo]:
        for file in self.files:
            name = file.relative_to(self.root)
            yield Photo(image_id_of(name), name.as_posix(), str(file))


@dataclass(frozen=True)
class TableShard:
    """One file of a table (parquet, arrow, tar); ids are its column `image_id`, else names of files, else numbers."""

    name: str
    rows: "datasets.IterableDataset"
    image_column_name: str
    contents: str = ""

    def __iter__(self) -> Iterator[Photo]:
        for number, row in enumerate(self.rows):
            cell = row[self.image_column_name]
            path = cell.get("path") if isinstance(cell, Mapping) else None
            source = cell if not isinstance(cell, Mapping) else path if cell.get("bytes") is None else cell["bytes"]
            image_id = row.get("image_id")
            if image_id is None:
                image_id = image_id_of(PurePath(path).name) if path else f"{self.name}-{number}"
            yield Photo(image_id, PurePath(path).name if path else str(image_id), source)


def open_shards(
    dataset_name: str | None = None,
    dataset_config_name: str | None = None,
    *,
    dataset_dir: str | Path | None = None,
    split: str = "val",
    image_column_name: str = "image",
    shard_size: int = 256,
) -> list[Shard]:
    """
    Finds the shards of a dataset; annotations are not needed.

    Args:
        dataset_name: name on the Hub, whose files are the shards.
        dataset_config_name: configuration on the Hub.
        dataset_dir: instead of it a folder: of photos, or with photos in the subfolder `split`, which are taken in
            groups of `shard_size`; or of tables (parquet, `save_to_disk`), whose files are the shards.
        split: its name.
        image_column_name: photos of a table.
        shard_size: photo files in a shard.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: not exactly one place, no known layout, split or column, or two photos with one id.
    """
    if (dataset_name is None) == (dataset_dir is None):
        raise ValueError("Give exactly one of `dataset_name` (on the Hub) and `dataset_dir` (a folder).")
    if shard_size < 1:
        raise ValueError(f"`shard_size` must be at least 1, got {shard_size}.")
    folder = None if dataset_dir is None else Path(dataset_dir)
    if folder is not None:
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder}: no such folder (`dataset_dir`).")
        root = folder / split if (folder / split).is_dir() else folder
        files = list_photos(root, recursive=root != folder)
        if files:
            return group_files(root, files, shard_size)
    rows = load_rows(folder, dataset_name or str(folder), dataset_config_name, split, streaming=True)
    columns = rows.column_names or list(next(iter(rows), {}))
    if image_column_name not in columns:
        raise ValueError(f"{dataset_name or folder}: no column {image_column_name!r}; it has {sorted(columns)}.")
    rows, count = keep_encoded(rows, (image_column_name,)), rows.num_shards
    return [
        TableShard(f"{split}-{k:05d}-of-{count:05d}", rows.shard(num_shards=count, index=k), image_column_name)
        for k in range(count)
    ]


def list_photos(folder: Path, *, recursive: bool) -> list[Path]:
    """Photo files by name, in subfolders too if `recursive`."""
    paths = folder.rglob("*") if recursive else folder.iterdir()
    return sorted(path for path in paths if is_photo(path))


def group_files(root: Path, files: Sequence[Path], shard_size: int) -> list[Shard]:
    """Shards of `shard_size` files, the last maybe smaller; raises `ValueError` if ids are not unique."""
    stems = sorted((path.relative_to(root).with_suffix("").as_posix(), path.name) for path in files)
    for (stem, name), (following, other) in pairwise(stems):
        if stem == following:
            raise ValueError(f"{root}: {name} and {other} would have one image id, {stem!r}; rename or remove one.")
    groups = [files[k : k + shard_size] for k in range(0, len(files), shard_size)]
    return [FileShard(f"{root.name}-{k:05d}-of-{len(groups):05d}", root, group) for k, group in enumerate(groups)]


def image_id_of(name: PurePath | str) -> int | str:
    """COCO's number if the name is one, else the name without suffix."""
    stem = PurePath(name).with_suffix("").as_posix()
    return int(stem) if stem.isdecimal() else stem
