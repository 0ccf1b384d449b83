"""From the datasets' official folders to the layout that the readers open; wrong layouts are explained."""

import json
import shutil

import pytest

from official_folders import make_official_folder, official_categories
from transformers_yoso.conversion.dataset_specs import DATASET_SPECS
from transformers_yoso.conversion.official_layouts import OFFICIAL_LAYOUTS, arrange_dataset
from transformers_yoso.data import open_dataset


@pytest.fixture(scope="module")
def photo_files(photos):
    return [photos.image_folder / name for name in photos.image_names[:3]]


def edit(file, change) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


@pytest.mark.parametrize("name", DATASET_SPECS)
def test_arranged_folder_has_the_labels_of_the_released_checkpoint(name, photo_files, tmp_path):
    source = make_official_folder(name, tmp_path / "official", photo_files)
    for _ in range(2):  # a second run replaces what the first wrote
        assert arrange_dataset(name, source, tmp_path / "arranged") == {"train": 2, "val": 1}
    spec, ids = DATASET_SPECS[name], [category["id"] for category in official_categories(name)]
    for split, count in (("train", 2), ("val", 1)):
        dataset = open_dataset(dataset_dir=tmp_path / "arranged", split=split)
        assert len(dataset) == count
        assert dataset.categories.id2label == spec.id2label
        assert dataset.categories.stuff_label_ids == spec.stuff_label_ids
        for index in range(count):
            sample, segments = dataset[index], dataset.annotations[index]["segments_info"]
            assert sample.class_labels.tolist() == [ids.index(segment["category_id"]) for segment in segments]
            assert sample.num_segments == 3


def test_wrong_layouts_say_what_was_expected_and_what_was_found(photo_files, tmp_path):
    source = make_official_folder("cityscapes", tmp_path / "official", photo_files)

    def refused(message: str) -> None:
        with pytest.raises(ValueError, match=message):
            arrange_dataset("cityscapes", source, tmp_path / "arranged")
        assert not (tmp_path / "arranged").exists()

    annotations = source / "gtFine" / "cityscapes_panoptic_val.json"
    edit(annotations, lambda content: content["categories"].pop())
    refused(r"cityscapes_panoptic_val\.json: expected the 19 classes of Cityscapes; missing.*\['bicycle'\]; found 18")
    edit(annotations, lambda content: content["annotations"][0].update(image_id="berlin_000000_000019"))
    refused(r"1 of the files.*for example .*val/berlin/berlin_000000_000019_leftImg8bit\.png")
    annotations.unlink()
    refused(
        r"expected the annotations at gtFine/cityscapes_panoptic_val\.json, made by: csCreatePanopticImgs.*gtFine has: "
        r"cityscapes_panoptic_train, cityscapes_panoptic_train\.json, cityscapes_panoptic_val\."
    )
    shutil.rmtree(source / "leftImg8bit")
    refused(r"expected the photos at leftImg8bit/train; .*official has: gtFine\.")
    with pytest.raises(ValueError, match=r"'pascal'.*coco, cityscapes, ade20k, mapillary"):
        arrange_dataset("pascal", source, tmp_path / "arranged")
    with pytest.raises(FileNotFoundError, match=r"nowhere: no such folder; .*Cityscapes"):
        arrange_dataset("cityscapes", tmp_path / "nowhere", tmp_path / "arranged")


def test_training_on_an_official_folder_says_how_to_arrange_it(photo_files, tmp_path):
    source = make_official_folder("cityscapes", tmp_path / "official", photo_files)
    with pytest.raises(ValueError, match=r"Expected COCO panoptic.*found gtFine, leftImg8bit\..*arrange_dataset\.py"):
        open_dataset(dataset_dir=source, split="train")


def test_folders_are_never_overwritten(photo_files, tmp_path):
    source = make_official_folder("coco", tmp_path / "official", photo_files)
    (tmp_path / "arranged" / "train").mkdir(parents=True)
    with pytest.raises(ValueError, match="train exists and is no link"):
        arrange_dataset("coco", source, tmp_path / "arranged")


def test_classes_of_mapillary_go_by_number(photo_files, tmp_path):
    """Its archive may name them `animal--bird`; a thing in the place of stuff is another table."""
    source = make_official_folder("mapillary", tmp_path / "official", photo_files)
    annotations = source / "training" / "panoptic" / "panoptic_2018.json"
    edit(annotations, lambda content: content["categories"][0].update(name="animal--bird"))
    edit(annotations, lambda content: content["categories"].append({"id": 66, "name": "Unlabeled", "isthing": 0}))
    arrange_dataset("mapillary", source, tmp_path / "arranged")
    assert open_dataset(dataset_dir=tmp_path / "arranged").categories.id2label[0] == "Bird"
    edit(annotations, lambda content: content["categories"][2].update(isthing=1))
    with pytest.raises(ValueError, match=r"thing instead of stuff, are \['Curb'\]"):
        arrange_dataset("mapillary", source, tmp_path / "arranged")


def test_layouts_and_specs_are_of_the_same_datasets():
    assert OFFICIAL_LAYOUTS.keys() == DATASET_SPECS.keys()
