"""Every form in which a dataset may lie: one factory, the same samples, and clear refusals."""

import json
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from panoptic_folders import (
    coco_categories,
    copy_photos,
    edit_json,
    png_bytes,
    segments_info_table,
    semantic_instance_table,
)
from transformers_yoso.data import (
    VOID,
    CategoryTable,
    CocoPanopticDataset,
    PanopticSample,
    StreamedPanopticDataset,
    TablePanopticDataset,
    list_splits,
    open_dataset,
)
from transformers_yoso.data.readers.coco_instances import paint_masks
from transformers_yoso.data.readers.row_formats import SemanticInstanceFormat
from transformers_yoso.data.sample import segment_areas

COUNT = 3


@pytest.fixture(scope="module")
def facade(shared_dir) -> CocoPanopticDataset:
    return CocoPanopticDataset.from_folder(shared_dir / "data" / "facade", "val")


@pytest.fixture(scope="module")
def coco(shared_dir) -> CocoPanopticDataset:
    return CocoPanopticDataset.from_folder(shared_dir / "data" / "coco_panoptic_sample", "val2017")


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf_cache")


@pytest.fixture
def categories_file(facade, tmp_path) -> Path:
    file = tmp_path / "classes.json"
    file.write_text(json.dumps(coco_categories(facade)))
    return file


def label_map(sample: PanopticSample) -> torch.Tensor:
    return torch.cat([sample.class_labels, torch.tensor([VOID])])[sample.segment_map]


def assert_same_segments(sample: PanopticSample, expected: PanopticSample) -> None:
    """Equal photo, and equal segments in any order."""
    assert torch.equal(sample.image, expected.image)
    assert torch.equal(label_map(sample), label_map(expected))
    assert sorted(zip(sample.class_labels.tolist(), segment_areas(sample).tolist(), strict=True)) == sorted(
        zip(expected.class_labels.tolist(), segment_areas(expected).tolist(), strict=True)
    )


# --- tables ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("storage", ["save_to_disk", "parquet"])
@pytest.mark.parametrize("make_table", [segments_info_table, semantic_instance_table])
def test_tables_give_the_samples_of_the_coco_folder(facade, tmp_path, make_table, storage, streaming):
    folder, table = tmp_path / "table", make_table(facade, COUNT)
    if storage == "save_to_disk":
        datasets.DatasetDict({"train": table, "validation": table.select([0])}).save_to_disk(folder)
    else:
        folder.mkdir()
        table.to_parquet(folder / "train.parquet")
        table.select([0]).to_parquet(folder / "validation.parquet")
    (folder / "categories.json").write_text(json.dumps(coco_categories(facade)))

    assert sorted(list_splits(dataset_dir=folder)) == ["train", "validation"]
    dataset = open_dataset(dataset_dir=folder, split="train", streaming=streaming)
    assert isinstance(dataset, StreamedPanopticDataset if streaming else TablePanopticDataset)
    assert dataset.categories == facade.categories
    samples = list(dataset) if streaming else [dataset[index] for index in range(len(dataset))]
    assert len(samples) == COUNT
    for index, sample in enumerate(samples):
        assert_same_segments(sample, facade[index])
        assert facade.image_names[index] in sample.file_name
    assert len(list(open_dataset(dataset_dir=folder, split="val", streaming=True))) == 1  # HF calls it validation


def test_segments_info_may_be_json_text_or_columns(facade, tmp_path, categories_file):
    table = segments_info_table(facade, 1)
    infos = table[0]["segments_info"]
    texts = table.remove_columns("segments_info").add_column("info", [json.dumps(infos)])
    columns = table.remove_columns("segments_info").add_column(
        "info", [{key: [i[key] for i in infos] for key in infos[0]}]
    )
    for number, changed in enumerate((texts, columns)):
        changed.save_to_disk(tmp_path / str(number))
        dataset = open_dataset(
            dataset_dir=tmp_path / str(number), segments_info_column_name="info", categories_file=categories_file
        )
        assert torch.equal(dataset[0].segment_map, facade[0].segment_map)


def test_reduced_labels_count_from_one_less(facade, tmp_path):
    categories = [{**category, "id": category["id"] - 1} for category in coco_categories(facade)]
    (tmp_path / "classes.json").write_text(json.dumps(categories))
    semantic_instance_table(facade, 1).save_to_disk(tmp_path / "table")  # category ids from 1, void 0
    dataset = open_dataset(
        dataset_dir=tmp_path / "table", categories_file=tmp_path / "classes.json", do_reduce_labels=True
    )
    assert_same_segments(dataset[0], facade[0])


def test_semantic_id_255_is_void_and_stuff_is_one_segment(facade, categories_file, tmp_path):
    table = CategoryTable.from_file(categories_file)
    channels = np.zeros((4, 8, 3), dtype=np.uint8)
    window, street = 1, 8
    channels[:, :2] = (window, 5, 0)
    channels[:, 2:4] = (window, 9, 0)
    channels[:, 4:6] = (street, 1, 0)
    channels[:2, 4:6] = (street, 2, 0)
    channels[:, 6:] = (255, 3, 0)
    row = {"image": Image.new("RGB", (8, 4)), "annotation": {"bytes": png_bytes(channels)}}
    sample = SemanticInstanceFormat("image", "annotation", table).read(row, 0, "toy").to_sample(table)
    assert [table.id2label[label] for label in sample.class_labels.tolist()] == ["window", "window", "street"]
    assert sample.segment_map[0].tolist() == [0, 0, 1, 1, 2, 2, VOID, VOID]

    channels[0, 0, 0] = 77
    row["annotation"] = {"bytes": png_bytes(channels)}
    with pytest.raises(ValueError, match=r"toy, row 0.*category 77, which `categories` does not list"):
        SemanticInstanceFormat("image", "annotation", table).read(row, 0, "toy").to_sample(table)


def test_semantic_maps_alone_serve_if_all_classes_are_stuff(tmp_path):
    semantic = np.array([[3, 3, 40], [255, 40, 40]], dtype=np.uint8)  # ids with gaps
    row = {"image": {"bytes": png_bytes(np.zeros((2, 3, 3), np.uint8))}, "annotation": {"bytes": png_bytes(semantic)}}
    datasets.Dataset.from_list([row]).save_to_disk(tmp_path / "table")
    names = tmp_path / "id2label.json"
    names.write_text(json.dumps({"40": "sky", "3": "road"}))

    dataset = open_dataset(dataset_dir=tmp_path / "table", categories_file=names, stuff_category_ids=[3, 40])
    assert dataset.categories.id2label == {0: "road", 1: "sky"} and dataset.categories.stuff_label_ids == [0, 1]
    assert label_map(dataset[0]).tolist() == [[0, 0, 1], [VOID, 1, 1]]

    with_things = open_dataset(dataset_dir=tmp_path / "table", categories_file=names, stuff_category_ids=[3])
    with pytest.raises(ValueError, match=r"row 0.*one channel.*stuff_category_ids"):
        with_things[0]


def test_broken_cells_name_row_and_column(facade, tmp_path, categories_file):
    table = segments_info_table(facade, 1)
    whole = table.cast_column("image", datasets.Image(decode=False)).cast_column(
        "label", datasets.Image(decode=False)
    )[0]
    rows = [
        {**whole, "image": {"bytes": whole["image"]["bytes"][:3000], "path": "half.jpg"}},
        {**whole, "label": {"bytes": b"no picture", "path": None}},
        {**whole, "label": None},
        {**whole, "segments_info": whole["segments_info"][1:]},
    ]
    datasets.Dataset.from_list(rows, features=table.features).save_to_disk(tmp_path / "table")
    dataset = open_dataset(dataset_dir=tmp_path / "table", categories_file=categories_file)
    messages = [
        r"row 0 \(half.jpg\), column `image`: cannot be decoded",
        r"row 1 .*column `label`: cannot be decoded",
        r"row 2 .*column `label`: there is no picture",
        r"row 3 .*absent from its `segments_info`",
    ]
    for index, message in enumerate(messages):
        with pytest.raises(ValueError, match=message):
            dataset[index]


# --- instances ------------------------------------------------------------------------------------------------------


def instance_folder(coco: CocoPanopticDataset, folder: Path) -> Path:
    """The things of the panoptic sample as COCO instances: run lengths, one of them a polygon, and a bare photo."""
    from pycocotools import mask as mask_utils

    (folder / "val").mkdir(parents=True)
    images, annotations = [], []
    for index in range(len(coco)):
        record = coco.read_record(index)
        height, width = record.ids.shape
        name = coco.image_names[index]
        (folder / "val" / name).write_bytes((coco.image_folder / name).read_bytes())
        images.append({"id": record.image_id, "file_name": name, "height": height, "width": width})
        for info in record.segments_info:
            if coco.categories.label_of_category[info["category_id"]] in coco.categories.stuff_label_ids:
                continue
            run_lengths = mask_utils.encode(np.asfortranarray(record.ids == info["id"], dtype=np.uint8))
            annotations.append(
                {
                    "id": info["id"],
                    "image_id": record.image_id,
                    "category_id": info["category_id"],
                    "iscrowd": info["iscrowd"],
                    "segmentation": {"size": [height, width], "counts": run_lengths["counts"].decode()},
                }
            )
    Image.new("RGB", (20, 10)).save(folder / "val" / "bare.png")
    images.append({"id": 1, "file_name": "bare.png", "height": 10, "width": 20})
    categories = [category for category in coco_categories(coco) if category["isthing"]]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations").mkdir()
    (folder / "annotations" / "instances_val.json").write_text(json.dumps(content))
    return folder


def test_instances_are_things_on_void(coco, tmp_path):
    dataset = open_dataset(dataset_dir=instance_folder(coco, tmp_path), split="val")
    assert list_splits(dataset_dir=tmp_path) == ["val"]
    assert dataset.categories.stuff_label_ids == [] and dataset.categories.num_labels == 80
    for index, panoptic in enumerate(coco):
        sample = dataset[index]
        is_thing = ~torch.isin(panoptic.class_labels, torch.tensor(coco.categories.stuff_label_ids))
        assert sample.class_labels.tolist() == panoptic.class_labels[is_thing].tolist()
        assert segment_areas(sample).tolist() == segment_areas(panoptic)[is_thing].tolist()
        assert sample.is_crowd.tolist() == panoptic.is_crowd[is_thing].tolist()
        assert torch.equal(sample.image, panoptic.image)
    assert dataset[2].num_segments == 0 and (dataset[2].segment_map == VOID).all()


def test_polygons_are_painted_and_smaller_masks_lie_on_top(coco, tmp_path):
    folder = instance_folder(coco, tmp_path)
    small = {"id": 7, "image_id": 1, "category_id": 1, "iscrowd": 0, "segmentation": [[2, 2, 6, 2, 6, 6, 2, 6]]}
    large = {"id": 8, "image_id": 1, "category_id": 2, "iscrowd": 1}
    large["segmentation"] = {"size": [10, 20], "counts": [0, 200]}  # uncompressed run lengths of the whole photo

    edit_json(
        folder / "annotations" / "instances_val.json", lambda content: content["annotations"].extend([small, large])
    )
    sample = open_dataset(dataset_dir=folder, split="val")[2]
    assert sample.class_labels.tolist() == [0, 1] and sample.is_crowd.tolist() == [False, True]
    assert segment_areas(sample).tolist() == [16, 184]
    assert (sample.segment_map[2:6, 2:6] == 0).all()

    edit_json(
        folder / "annotations" / "instances_val.json",
        lambda content: content["annotations"][-2].update(segmentation=[[1, 2]]),
    )
    with pytest.raises(ValueError, match=r"bare\.png.*annotation 7 cannot be decoded"):
        open_dataset(dataset_dir=folder, split="val")[2]
    edit_json(
        folder / "annotations" / "instances_val.json",
        lambda content: content["annotations"][-1].update(category_id=999),
    )
    with pytest.raises(ValueError, match="annotation 8 has category 999"):
        open_dataset(dataset_dir=folder, split="val")


def test_equal_masks_keep_their_order():
    masks = [np.zeros((2, 4), dtype=bool) for _ in range(3)]
    masks[0][:, :], masks[1][:, :1], masks[2][:, :2] = True, True, True
    assert paint_masks(masks, 2, 4).tolist() == [[2, 3, 1, 1]] * 2


# --- folders, classes and refusals ----------------------------------------------------------------------------------


def test_official_archives_layout_is_found(facade, tmp_path):
    folder = copy_photos(facade, 1, tmp_path)
    (folder / "annotations").mkdir()
    for name in ("panoptic_val", "panoptic_val.json"):
        (folder / name).rename(folder / "annotations" / name)
    assert list_splits(dataset_dir=folder) == ["val"]
    assert torch.equal(open_dataset(dataset_name=str(folder), split="val")[0].segment_map, facade[0].segment_map)


@pytest.mark.parametrize("isthing", [0, 1])
def test_datasets_without_things_or_without_stuff_open(facade, tmp_path, isthing):
    folder = copy_photos(facade, 1, tmp_path)
    edit_json(folder / "panoptic_val.json", lambda content: [c.update(isthing=isthing) for c in content["categories"]])
    dataset = open_dataset(dataset_dir=folder, split="val")
    assert dataset.categories.stuff_label_ids == ([] if isthing else list(range(10)))
    assert dataset[0].num_segments == facade[0].num_segments


def test_category_ids_with_gaps_become_compact_labels(facade, tmp_path):
    folder = copy_photos(facade, 1, tmp_path)

    def spread(content):
        for category in content["categories"]:
            category["id"] = 1000 - 7 * category["id"]
        for info in content["annotations"][0]["segments_info"]:
            info["category_id"] = 1000 - 7 * info["category_id"]

    edit_json(folder / "panoptic_val.json", spread)
    dataset = open_dataset(dataset_dir=folder, split="val")
    assert dataset.categories.id2label == facade.categories.id2label
    assert torch.equal(dataset[0].class_labels, facade[0].class_labels)


def test_classes_must_be_known(facade, tmp_path):
    segments_info_table(facade, 1).save_to_disk(tmp_path / "table")
    with pytest.raises(ValueError, match=r"classes are not known.*categories_file"):
        open_dataset(dataset_dir=tmp_path / "table")
    names = tmp_path / "id2label.json"
    names.write_text(json.dumps({str(k): f"class {k}" for k in range(1, 11)}))
    with pytest.raises(ValueError, match=r"id2label\.json: .*lack `isthing`.*stuff_category_ids"):
        open_dataset(dataset_dir=tmp_path / "table", categories_file=names)
    with pytest.raises(ValueError, match=r"stuff category ids \[44\]"):
        open_dataset(dataset_dir=tmp_path / "table", categories_file=names, stuff_category_ids=[7, 44])
    with pytest.raises(FileNotFoundError, match=r"nothing\.json"):
        open_dataset(dataset_dir=tmp_path / "table", categories_file=tmp_path / "nothing.json")
    dataset = open_dataset(dataset_dir=tmp_path / "table", categories_file=names, stuff_category_ids=[7, 8, 9, 10])
    assert dataset.categories.stuff_label_ids == facade.categories.stuff_label_ids


def test_class_names_may_stand_in_the_features(facade, tmp_path):
    names = ["nothing", *facade.categories.id2label.values()]
    table = segments_info_table(facade, 1)
    features = table.features.copy()
    features["segments_info"] = datasets.List(
        {**features["segments_info"].feature, "category_id": datasets.ClassLabel(names=names)}
    )
    table.cast(features).save_to_disk(tmp_path / "table")
    dataset = open_dataset(dataset_dir=tmp_path / "table", stuff_category_ids=[7, 8, 9, 10])
    assert [dataset.categories.id2label[label] for label in dataset[0].class_labels.tolist()] == [
        facade.categories.id2label[label] for label in facade[0].class_labels.tolist()
    ]


def test_wrong_arguments_and_layouts_are_explained(facade, tmp_path):
    folder = copy_photos(facade, 1, tmp_path / "coco")
    with pytest.raises(ValueError, match="exactly one of"):
        open_dataset()
    with pytest.raises(ValueError, match="exactly one of"):
        open_dataset("name", dataset_dir=folder)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        open_dataset(dataset_dir=tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"no split 'test'; found .*val"):
        open_dataset(dataset_dir=folder, split="test")
    with pytest.raises(ValueError, match=r"annotation_format.*coco_panoptic"):
        open_dataset(dataset_dir=folder, split="val", annotation_format="voc")
    with pytest.raises(ValueError, match="streaming"):
        open_dataset(dataset_dir=folder, split="val", streaming=True)
    with pytest.raises(ValueError, match="local folder"):
        open_dataset("somebody/something", annotation_format="coco_panoptic")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "labels.txt").touch()
    with pytest.raises(ValueError, match=r"Expected COCO panoptic.*found labels\.txt"):
        open_dataset(dataset_dir=tmp_path / "odd")

    segments_info_table(facade, 1).rename_column("image", "photo").save_to_disk(tmp_path / "table")
    names = tmp_path / "classes.json"
    names.write_text(json.dumps(coco_categories(facade)))
    with pytest.raises(ValueError, match=r"no columns \['image'\]; it has .*'photo'.*image_column_name"):
        open_dataset(dataset_dir=tmp_path / "table", categories_file=names)
    dataset = open_dataset(dataset_dir=tmp_path / "table", categories_file=names, image_column_name="photo")
    assert torch.equal(dataset[0].image, facade[0].image)
    with pytest.raises(ValueError, match=r"no split 'val'; found \['train'\]"):
        open_dataset(dataset_dir=tmp_path / "table", categories_file=names, split="val")
