"""From the folders that the datasets' own tools make to the COCO panoptic layout that training and evaluation read."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.readers.coco_json import read_coco_json, shown_content
from .dataset_specs import DatasetSpec, get_dataset_spec


@dataclass(frozen=True)
class OfficialLayout:
    """
    Where a dataset's parts lie; `{split}` stands for the dataset's own name of the split.

    Attributes:
        splits: the dataset's name of a split by ours.
        photos, maps, annotations: folders of photos and of panoptic PNGs, and the JSON file.
        photo_name: file of an annotation's photo within `photos`: `{stem}` is the PNG's name without suffix,
            `{image_id}` the annotation's, `{city}` its part before the first underscore.
        made_by: what makes maps and annotations.
        first_category_id: categories are numbered from here in the order of the labels; None: they are known by name.
    """

    splits: Mapping[str, str]
    photos: str
    maps: str
    annotations: str
    photo_name: str
    made_by: str
    first_category_id: int | None = None


OFFICIAL_LAYOUTS = {
    "coco": OfficialLayout(
        splits={"train": "train2017", "val": "val2017"},
        photos="{split}",
        maps="annotations/panoptic_{split}",
        annotations="annotations/panoptic_{split}.json",
        photo_name="{stem}.jpg",
        made_by="COCO's panoptic annotations archive and the archives in it, unpacked",
    ),
    "cityscapes": OfficialLayout(
        splits={"train": "train", "val": "val"},
        photos="leftImg8bit/{split}",
        maps="gtFine/cityscapes_panoptic_{split}",
        annotations="gtFine/cityscapes_panoptic_{split}.json",
        photo_name="{city}/{image_id}_leftImg8bit.png",
        made_by="csCreatePanopticImgs of cityscapesscripts",
    ),
    "ade20k": OfficialLayout(
        splits={"train": "training", "val": "validation"},
        photos="images/{split}",
        maps="ade20k_panoptic_{short_split}",
        annotations="ade20k_panoptic_{short_split}.json",
        photo_name="{stem}.jpg",
        made_by="Mask2Former's datasets/prepare_ade20k_pan_seg.py",
    ),
    "mapillary": OfficialLayout(
        splits={"train": "training", "val": "validation"},
        photos="{split}/images",
        maps="{split}/panoptic",
        annotations="{split}/panoptic/panoptic_2018.json",
        photo_name="{stem}.jpg",
        made_by="Mapillary Vistas v1.2, whose archive holds them",
        first_category_id=1,
    ),
}


def arrange_dataset(dataset: str, source_dir: str | Path, output_dir: str | Path) -> dict[str, int]:
    """
    Makes `train`, `panoptic_train` (links), `panoptic_train.json` and the same of `val` out of the official folders.

    The JSON names each photo's file and lists the classes in the order and spelling of the released checkpoint.

    Args:
        dataset: coco, cityscapes, ade20k or mapillary.
        source_dir: the official folder; it stays as it is.
        output_dir: is made if it is missing; links and JSON files in it are replaced.

    Returns:
        Number of photos by split.

    Raises:
        ValueError: unknown dataset, or a folder of another layout: what was expected and what was found.
        FileNotFoundError: no such folder.
    """
    spec, layout, source = get_dataset_spec(dataset), OFFICIAL_LAYOUTS[dataset], Path(source_dir)
    if not source.is_dir():
        raise FileNotFoundError(f"{source}: no such folder; it should be the official folder of {spec.title}.")
    places = {split: _places(layout, split, source) for split in layout.splits}
    for split_places in places.values():
        for kind, place in split_places.items():
            _require(place, kind, layout, source)
    contents = {split: _arranged_json(spec, layout, **split_places) for split, split_places in places.items()}
    output = Path(output_dir)
    output.mkdir(parents=True, exist_ok=True)
    for split, content in contents.items():
        _link(output / split, places[split]["photos"])
        _link(output / f"panoptic_{split}", places[split]["maps"])
        (output / f"panoptic_{split}.json").write_text(json.dumps(content) + "\n", encoding="utf-8")
    return {split: len(content["annotations"]) for split, content in contents.items()}


def _places(layout: OfficialLayout, split: str, source: Path) -> dict[str, Path]:
    names = {"split": layout.splits[split], "short_split": split}
    return {kind: source / getattr(layout, kind).format(**names) for kind in ("photos", "maps", "annotations")}


def _require(place: Path, kind: str, layout: OfficialLayout, source: Path) -> None:
    is_there = place.is_file() if kind == "annotations" else place.is_dir()
    if is_there:
        return
    origin = "" if kind == "photos" else f", made by: {layout.made_by}"
    found = shown_content(place.parent)
    raise ValueError(f"{source}: expected the {kind} at {place.relative_to(source)}{origin}; {found}.")


def _arranged_json(
    spec: DatasetSpec, layout: OfficialLayout, photos: Path, maps: Path, annotations: Path
) -> dict[str, Any]:
    content = read_coco_json(annotations)
    sizes = {image["id"]: {key: image[key] for key in ("height", "width")} for image in content["images"]}
    images, missing = [], []
    for annotation in content["annotations"]:
        image_id = annotation["image_id"]
        name = layout.photo_name.format(
            stem=Path(annotation["file_name"]).stem, image_id=image_id, city=str(image_id).partition("_")[0]
        )
        images.append({"id": image_id, "file_name": name, **sizes.get(image_id, {})})
        missing += [path for path in (photos / name, maps / annotation["file_name"]) if not path.is_file()]
    if missing:
        raise ValueError(
            f"{annotations}: {len(missing)} of the files that belong to its {len(images)} annotations are missing, for "
            f"example {missing[0]}."
        )
    categories = _arranged_categories(spec, layout, content["categories"], str(annotations))
    return {"images": images, "annotations": content["annotations"], "categories": categories}


def _arranged_categories(
    spec: DatasetSpec, layout: OfficialLayout, found: list[dict[str, Any]], source: str
) -> list[dict[str, Any]]:
    """The categories of the file in the order of the labels; raises `ValueError` if they are other ones."""
    by_key = {
        category["id"] if layout.first_category_id is not None else category["name"].strip(): category
        for category in found
    }
    stuff = set(spec.stuff_label_ids)
    keys = {
        label: name if layout.first_category_id is None else label + layout.first_category_id
        for label, name in spec.id2label.items()
    }
    wrong = [
        spec.id2label[label]
        for label, key in keys.items()
        if key not in by_key or bool(by_key[key].get("isthing")) == (label in stuff)
    ]
    if wrong:
        raise ValueError(
            f"{source}: expected the {spec.num_labels} classes of {spec.title}; missing, or thing instead of stuff, are "
            f"{wrong[:5]}; found {len(found)}: {[category['name'] for category in found][:5]} ..."
        )
    return [
        {
            "id": by_key[key]["id"],
            "name": spec.id2label[label],
            "isthing": int(label not in stuff),
            "color": list(spec.label_colors[label]),
        }
        for label, key in keys.items()
    ]


def _link(link: Path, target: Path) -> None:
    if link.is_symlink():
        link.unlink()
    elif link.exists():
        raise ValueError(f"{link} exists and is no link; give another output folder.")
    link.symlink_to(target.resolve(), target_is_directory=True)
