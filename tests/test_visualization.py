"""The overlay: colours, outlines, and labels that stay inside and clear of each other."""

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from transformers_yoso.visualization import class_color, coco_colors, draw_panoptic
from transformers_yoso.visualization.colors import segment_colors, shade_color, srgb_to_oklab
from transformers_yoso.visualization.label_placement import label_texts, place_labels
from transformers_yoso.visualization.legend import legend_entries
from transformers_yoso.visualization.lettering import chip_box as box_of
from transformers_yoso.visualization.lettering import overlap as boxes_overlap
from transformers_yoso.visualization.segment_maps import outline_mask, segment_rows

ID2LABEL = {0: "sky", 1: "a very long name of a very small thing", 2: "car"}


@pytest.fixture(params=["000000142238", "000000439180"])
def coco_photo(request: pytest.FixtureRequest, shared_dir: Path) -> dict[str, Any]:
    """A COCO photo with its ground truth as arguments of `draw_panoptic`."""
    folder = shared_dir / "data" / "coco_panoptic_sample"
    truth = json.loads((folder / "panoptic_val2017.json").read_text())
    annotation = next(a for a in truth["annotations"] if a["image_id"] == int(request.param))
    rgb = np.asarray(Image.open(folder / "panoptic_val2017" / annotation["file_name"]).convert("RGB")).astype(np.int64)
    segments = [{"id": s["id"], "label_id": s["category_id"], "score": 0.87} for s in annotation["segments_info"]]
    return {
        "image": Image.open(folder / "val2017" / f"{request.param}.jpg"),
        "segmentation": rgb @ [1, 256, 65536],
        "segments_info": segments,
        "id2label": {c["id"]: c["name"] for c in json.loads((folder / "panoptic_coco_categories.json").read_text())},
    }


@pytest.fixture
def two_halves() -> tuple[np.ndarray, np.ndarray]:
    """A noisy photo (60, 200), and a map with void above, segment 7 at the left and 300 at the right below."""
    photo = np.random.default_rng(0).integers(0, 256, (60, 200, 3), dtype=np.uint8)
    segmentation = np.zeros((60, 200), dtype=np.int32)
    segmentation[10:, :100], segmentation[10:, 100:] = 7, 300
    return photo, segmentation


def test_color_of_a_class_depends_on_its_id_only() -> None:
    first, second = ([{"label_id": label_id} for label_id in label_ids] for label_ids in ([5, 9, 5], [3, 5]))
    assert segment_colors(first)[0] == segment_colors(second)[1] == class_color(5)
    assert len({class_color(label_id) for label_id in range(133)}) == 133


def test_instances_of_a_class_have_different_shades_of_one_hue() -> None:
    shades = np.array([class_color(4, instance) for instance in range(30)], dtype=float)
    assert len({tuple(shade) for shade in shades}) == 30
    others = np.array([class_color(label_id) for label_id in range(20) if label_id != 4], dtype=float)
    to_own = np.linalg.norm(shades - shades[0], axis=1).mean()
    assert to_own < np.linalg.norm(others - shades[0], axis=1).mean()


def test_no_shade_has_the_hue_of_another_of_ten_classes() -> None:
    def hue(label_id: int, instance: int = 0) -> complex:
        direction = complex(*srgb_to_oklab(class_color(label_id, instance))[1:])
        return direction / abs(direction)

    for label_id in range(10):
        for instance in range(30):
            distances = [abs(hue(label_id, instance) - hue(other)) for other in range(10)]
            assert np.argmin(distances) == label_id, (label_id, instance)


def test_a_given_instance_number_fixes_the_shade_whatever_else_is_there() -> None:
    alone = segment_colors([{"label_id": 5, "instance": 7}])
    among_others = segment_colors([{"label_id": 5}, {"label_id": 5, "instance": 7}, {"label_id": 9}])
    assert alone[0] == among_others[1] == class_color(5, 7)


def test_given_class_colors_are_taken_and_shaded(two_halves: tuple[np.ndarray, np.ndarray]) -> None:
    colors = coco_colors([{"id": 2, "color": [220, 20, 60]}, {"id": 3, "name": "without"}])
    assert colors == {2: (220, 20, 60)}
    shades = segment_colors([{"label_id": 2}, {"label_id": 2}, {"label_id": 3}], colors)
    assert shades[0] == (220, 20, 60) and shades[2] == class_color(3)
    assert shades[1] != shades[0] and np.argmax(shades[1]) == 0
    assert np.abs(np.subtract(shade_color((120, 130, 90), 1), (120, 130, 90))).max() < 60
    photo, segmentation = two_halves
    drawn = draw_panoptic(photo, segmentation, [{"id": 300, "label_id": 2}], ID2LABEL, alpha=1, colors=colors)
    assert drawn.getpixel((150, 20)) == (220, 20, 60)


def test_legend_is_a_strip_under_the_photo_with_each_class_and_its_color(
    two_halves: tuple[np.ndarray, np.ndarray],
) -> None:
    photo, segmentation = two_halves
    infos = [{"id": 7, "label_id": 0}, {"id": 300, "label_id": 2}]
    plain = np.asarray(draw_panoptic(photo, segmentation, infos, ID2LABEL))
    drawn = np.asarray(draw_panoptic(photo, segmentation, infos, ID2LABEL, legend=True))
    assert drawn.shape[1] == 200 and drawn.shape[0] > 60
    assert (drawn[:60] == plain).all()
    strip = {tuple(pixel) for pixel in drawn[60:].reshape(-1, 3).tolist()}
    assert {class_color(0), class_color(2)} <= strip
    assert class_color(1) not in strip
    nothing = draw_panoptic(photo, segmentation, [], ID2LABEL, legend=True)
    assert nothing.size == (200, 60)


def test_legend_gives_the_share_of_all_pixels_also_of_a_tiny_class() -> None:
    rows = np.zeros((100, 100), dtype=np.uint16)
    rows[:50], rows[60:70, :], rows[99, :3] = 1, 2, 3
    infos = [{"label_id": 0}, {"label_id": 0}, {"label_id": 2}]
    texts = [text for text, _ in legend_entries(rows, infos, ID2LABEL, None)]
    assert texts == ["sky 60%", "car <1%"]


def test_legend_of_many_classes_wraps_and_stays_as_wide_as_the_photo() -> None:
    segmentation = np.arange(1, 41).repeat(5)[None].repeat(50, 0)
    infos = [{"id": k, "label_id": k} for k in range(1, 41)]
    names = {k: f"a class called {k}" for k in range(1, 41)}
    photo = np.zeros((50, 200, 3), dtype=np.uint8)
    few = draw_panoptic(photo, segmentation, infos[:2], names, legend=True)
    many = draw_panoptic(photo, segmentation, infos, names, legend=True)
    assert few.width == many.width == 200
    assert many.height > 5 * (few.height - 50)
    margin = np.asarray(many)[50:, -4:]
    assert (margin == margin[0, 0]).all()


def test_neighbouring_class_ids_are_far_apart_in_color() -> None:
    for label_id in range(40):
        difference = np.subtract(class_color(label_id), class_color(label_id + 1), dtype=float)
        assert np.linalg.norm(difference) > 60


def test_fill_is_the_blend_and_void_stays_the_photo(two_halves: tuple[np.ndarray, np.ndarray]) -> None:
    photo, segmentation = two_halves
    before = photo.copy()
    infos = [{"id": 7, "label_id": 0}, {"id": 300, "label_id": 2}]
    picture = draw_panoptic(photo, segmentation, infos, ID2LABEL, alpha=0.25, draw_labels=False)
    drawn = np.asarray(picture)
    assert picture.mode == "RGB" and picture.size == (200, 60)
    assert (photo == before).all()
    assert (drawn[:10] == photo[:10]).all()
    expected = 0.75 * photo[12:, 102:] + 0.25 * np.array(class_color(2))
    assert np.abs(drawn[12:, 102:] - expected).max() <= 1.5


def test_outlines_of_the_picture_lie_on_borders_of_segments_only() -> None:
    segmentation = np.ones((60, 90), dtype=np.int32)
    segmentation[20:40, 30:60] = 2
    photo = np.full((60, 90, 3), 90, dtype=np.uint8)
    infos = [{"id": 1, "label_id": 0}, {"id": 2, "label_id": 2}]
    drawn = np.asarray(draw_panoptic(photo, segmentation, infos, ID2LABEL, draw_labels=False))
    is_fill = (drawn == drawn[0, 0]).all(-1) | (drawn == drawn[30, 45]).all(-1)
    assert (~is_fill == outline_mask(segmentation, width=1)).all()
    assert drawn[~is_fill].min(-1).mean() > drawn[is_fill].min(-1).mean()


def test_outline_lies_on_both_sides_of_a_border_and_nowhere_else() -> None:
    rows = np.zeros((20, 30), dtype=np.uint16)
    rows[:, 15:] = 1
    for width in (1, 3):
        columns = np.flatnonzero(outline_mask(rows, width).all(0))
        assert columns.tolist() == list(range(15 - width, 15 + width))
        assert outline_mask(rows, width).sum() == 20 * 2 * width


def test_tensor_photo_modes_and_void_of_minus_one_give_the_same_picture(
    two_halves: tuple[np.ndarray, np.ndarray],
) -> None:
    photo, segmentation = two_halves
    infos = [{"id": 7, "label_id": 0, "score": 0.5}]
    picture = np.asarray(draw_panoptic(photo, segmentation, infos, ID2LABEL))
    with_minus_one = torch.from_numpy(np.where(segmentation == 7, 7, -1))
    rgba = Image.fromarray(photo).convert("RGBA")
    assert (np.asarray(draw_panoptic(rgba, with_minus_one, infos, ID2LABEL)) == picture).all()


def test_no_segments_give_the_photo_back(two_halves: tuple[np.ndarray, np.ndarray]) -> None:
    photo, segmentation = two_halves
    assert (np.asarray(draw_panoptic(photo, segmentation, [], ID2LABEL)) == photo).all()


@pytest.mark.parametrize("scale", [1, 3])
def test_labels_on_real_photos_stay_inside_and_apart(coco_photo: dict[str, Any], scale: int) -> None:
    ids = coco_photo["segmentation"].repeat(scale, 0).repeat(scale, 1)
    infos = coco_photo["segments_info"]
    rows = segment_rows(ids, [info["id"] for info in infos])
    label_ids = [info["label_id"] for info in infos]
    colors = segment_colors(infos)
    labels = place_labels(rows, label_ids, [label_texts(info, coco_photo["id2label"]) for info in infos], colors)

    boxes = [box_of(label) for label in labels]
    assert not any(boxes_overlap(a, b) for a, b in combinations(boxes, 2))
    named, overreaching = set(), 0
    for label, (left, top, right, bottom) in zip(labels, boxes, strict=True):
        assert left >= 0 and top >= 0 and right <= rows.shape[1] and bottom <= rows.shape[0]
        row = rows[int(label.center[1]), int(label.center[0])]
        assert row > 0 and colors[row - 1] == label.color
        name = coco_photo["id2label"][label_ids[row - 1]]
        assert label.text in (name, f"{name} 87%")
        overreaching += not (rows[int(top) : int(bottom) + 1, int(left) : int(right) + 1] == row).all()
        named.add(name)
    assert len(labels) >= 5
    assert overreaching <= len(named)
    assert len(named) >= 0.6 * len(set(label_ids))


def test_labels_leave_the_badge_free(coco_photo: dict[str, Any]) -> None:
    rows = segment_rows(coco_photo["segmentation"], [info["id"] for info in coco_photo["segments_info"]])
    label_ids = [info["label_id"] for info in coco_photo["segments_info"]]
    texts = [label_texts(info, coco_photo["id2label"]) for info in coco_photo["segments_info"]]
    free = place_labels(rows, label_ids, texts, segment_colors(coco_photo["segments_info"]))
    taken = [box_of(label) for label in free[:4]]
    moved = place_labels(rows, label_ids, texts, segment_colors(coco_photo["segments_info"]), taken)
    assert len(moved) >= 4
    assert not any(boxes_overlap(box_of(label), box) for label in moved for box in taken)
    plain, badged = (np.asarray(draw_panoptic(**coco_photo, badge=badge)) for badge in (None, "9.9 FPS"))
    assert (plain[:16, :60] != badged[:16, :60]).any()


def test_the_largest_font_and_longest_text_that_fit_are_taken() -> None:
    rows = np.zeros((400, 400), dtype=np.uint16)
    rows[:200], rows[250:280, 100:140] = 1, 2
    texts = [["sky 99%", "sky"], ["car 99%", "car"]]
    sky, car = place_labels(rows, [0, 2], texts, [(0, 0, 0), (1, 1, 1)])
    assert sky.text == "sky 99%" and car.text == "car"
    assert sky.font_size >= car.font_size
    assert sky.center == pytest.approx((200, 100), abs=110)
    assert car.center == pytest.approx((120, 265), abs=8)


def test_a_segment_too_small_for_its_name_is_named_once_a_class_where_there_is_room() -> None:
    rows = np.zeros((400, 600), dtype=np.uint16)
    for k in range(3):
        rows[100:106, 100 + 150 * k : 106 + 150 * k + k] = k + 1
    rows[395:, 590:] = 4
    labels = place_labels(
        rows, [1, 1, 1, 2], [[ID2LABEL[1]]] * 3 + [["a name as long"]], [(k, k, k) for k in range(4)]
    )
    assert [label.text for label in labels] == [ID2LABEL[1]]


def test_bad_input_is_named(two_halves: tuple[np.ndarray, np.ndarray]) -> None:
    photo, segmentation = two_halves
    infos = [{"id": 7, "label_id": 0}]
    with pytest.raises(ValueError, match="60 high and 200 wide"):
        draw_panoptic(photo, segmentation.T, infos, ID2LABEL)
    with pytest.raises(ValueError, match="integer ids"):
        draw_panoptic(photo, segmentation.astype(np.float32), infos, ID2LABEL)
    with pytest.raises(ValueError, match="uint8"):
        draw_panoptic(photo / 255, segmentation, infos, ID2LABEL)
    with pytest.raises(ValueError, match="alpha"):
        draw_panoptic(photo, segmentation, infos, ID2LABEL, alpha=50)
    with pytest.raises(ValueError, match="Segment ids"):
        draw_panoptic(photo, segmentation, [{"id": -1, "label_id": 0}], ID2LABEL)
