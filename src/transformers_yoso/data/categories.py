"""Which classes a dataset has, which of them are stuff, and which label id the model gives each."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class CategoryTable:
    """
    Contiguous label ids of a dataset's categories, in the order of its class table; category ids may have gaps.

    Attributes:
        label_of_category: category id of the data -> label id.
        id2label: label id -> name.
        stuff_label_ids: label ids of stuff. It may be empty (things only) or hold all labels (stuff only).
    """

    label_of_category: dict[int, int]
    id2label: dict[int, str]
    stuff_label_ids: list[int]

    @classmethod
    def from_json(
        cls, categories: Sequence[Mapping[str, Any]], source: str, stuff_category_ids: Sequence[int] | None = None
    ) -> "CategoryTable":
        """
        Builds the table from COCO's `categories`.

        Args:
            categories: each with `id`, `name` (spaces around it are dropped: ADE20K's tool writes some) and `isthing`
                (1 for things, 0 for stuff).
            source: file name for the messages.
            stuff_category_ids: category ids of stuff, instead of `isthing`.

        Raises:
            ValueError: no category, an id twice, a category without `isthing` where `stuff_category_ids` is not given,
                or a stuff id that no category has.
        """
        if not categories:
            raise ValueError(f"{source}: `categories` is empty; each needs `id`, `name` and `isthing`.")
        for category in categories:
            if "id" not in category or "name" not in category:
                raise ValueError(f"{source}: a category lacks `id` or `name`: {dict(category)}.")
        ids = [int(category["id"]) for category in categories]
        doubles = sorted({category_id for category_id in ids if ids.count(category_id) > 1})
        if doubles:
            raise ValueError(f"{source}: category ids {doubles} occur more than once in `categories`.")
        stuff = _stuff_ids(categories, source) if stuff_category_ids is None else set(stuff_category_ids)
        if unknown := sorted(stuff - set(ids)):
            raise ValueError(f"{source}: the stuff category ids {unknown} are no ids of its class table.")
        return cls(
            label_of_category={category_id: label for label, category_id in enumerate(ids)},
            id2label={label: str(category["name"]).strip() for label, category in enumerate(categories)},
            stuff_label_ids=[label for label, category_id in enumerate(ids) if category_id in stuff],
        )

    @classmethod
    def from_file(cls, file: str | Path, stuff_category_ids: Sequence[int] | None = None) -> "CategoryTable":
        """
        Reads a class table from JSON.

        The file holds a list of COCO categories, an object with such a list under `categories`, or an `id2label` object
        `{"0": "wall", ...}` as on the Hub (ordered by id; it needs `stuff_category_ids`).

        Raises:
            FileNotFoundError: no such file.
            ValueError: no JSON, another form, or what `from_json` refuses.
        """
        file = Path(file)
        if not file.is_file():
            raise FileNotFoundError(f"{file}: no such class table.")
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise ValueError(f"{file}: not valid JSON ({error}).") from error
        if isinstance(content, dict) and "categories" in content:
            content = content["categories"]
        if isinstance(content, dict):
            if not all(key.isdecimal() and isinstance(name, str) for key, name in content.items()):
                raise ValueError(f'{file}: an id2label table maps ids to names, {{"0": "wall", ...}}.')
            content = [{"id": int(key), "name": name} for key, name in content.items()]
            content.sort(key=lambda category: category["id"])
        if not isinstance(content, list) or not all(isinstance(category, dict) for category in content):
            raise ValueError(f"{file}: neither a list of categories nor an id2label table.")
        return cls.from_json(content, str(file), stuff_category_ids)

    @property
    def num_labels(self) -> int:
        return len(self.id2label)

    def to_json(self) -> list[dict[str, Any]]:
        """COCO's `categories`, in the order of the labels: what [`from_json`] reads."""
        return [
            {"id": category, "name": self.id2label[label], "isthing": int(label not in self.stuff_label_ids)}
            for category, label in self.label_of_category.items()
        ]


def _stuff_ids(categories: Sequence[Mapping[str, Any]], source: str) -> set[int]:
    unmarked = [category["id"] for category in categories if "isthing" not in category]
    if unmarked:
        raise ValueError(
            f"{source}: categories {unmarked[:20]} lack `isthing` (1 for things, 0 for stuff). Add it, or pass the ids of "
            "the stuff classes as `stuff_category_ids` (an empty list if all are things)."
        )
    return {int(category["id"]) for category in categories if not category["isthing"]}
