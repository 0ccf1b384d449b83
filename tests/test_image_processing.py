"""Preprocessing: sizes, pixel values, every kind of input, segmentation maps, and refusals."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate
from transformers.image_utils import SizeDict

from transformers_yoso.models.image_inputs import read_image
from transformers_yoso.models.image_processing_pil_yoso import YosoImageProcessorPil
from transformers_yoso.models.image_processing_yoso import YosoImageProcessor
from transformers_yoso.models.image_resizing import get_resized_image_size, resize_id_map

GREY_LEVEL = 1 / (255 * 0.224)
SMALL = {"shortest_edge": 96, "longest_edge": 160}

both_backends = pytest.mark.parametrize("processor_class", [YosoImageProcessor, YosoImageProcessorPil])


@pytest.fixture(scope="module")
def sample(shared_dir):
    """The two COCO photos with their panoptic maps and the class of each segment id."""
    folder = shared_dir / "data" / "coco_panoptic_sample"
    annotations = json.loads((folder / "panoptic_val2017.json").read_text())["annotations"]
    photos = [folder / "val2017" / annotation["file_name"].replace(".png", ".jpg") for annotation in annotations]
    maps = [Image.open(folder / "panoptic_val2017" / annotation["file_name"]) for annotation in annotations]
    classes = [{s["id"]: s["category_id"] for s in annotation["segments_info"]} for annotation in annotations]
    return {"paths": photos, "images": [Image.open(p) for p in photos], "maps": maps, "classes": classes}


@pytest.fixture(scope="module")
def photo(sample):
    return sample["images"][0]


def ids_of(rgb_map):
    red, green, blue = np.moveaxis(np.array(rgb_map).astype(np.int64), -1, 0)
    return red + 256 * green + 65536 * blue


# --- sizes


@pytest.mark.parametrize(
    ("image_size", "size", "expected"),
    [
        ((427, 640), (800, 1333), (800, 1199)),
        ((640, 427), (800, 1333), (1199, 800)),
        ((480, 480), (800, 1333), (800, 800)),
        ((400, 401), (600, 1333), (600, 602)),
        ((1000, 100), (800, 1333), (1333, 133)),
        ((100, 1000), (512, 800), (80, 800)),
        ((1024, 2048), (1024, 2048), (1024, 2048)),
        ((1, 5000), (800, 1333), (1, 1333)),
        ((100, 1000), (512, None), (512, 5120)),
    ],
)
def test_resize_rule_rounds_half_up(image_size, size, expected):
    assert get_resized_image_size(image_size, SizeDict(shortest_edge=size[0], longest_edge=size[1])) == expected


@both_backends
def test_shapes_padding_and_pixel_mask(processor_class, sample):
    processor = processor_class(size=SMALL)
    features = processor(sample["images"], return_tensors="pt")
    sizes = [get_resized_image_size(image.size[::-1], SizeDict(**SMALL)) for image in sample["images"]]
    height, width = (-(-max(edges) // 32) * 32 for edges in zip(*sizes, strict=True))
    assert features["pixel_values"].shape == (2, 3, height, width)
    assert features["pixel_values"].dtype == torch.float32
    assert features["pixel_mask"].dtype == torch.int64
    for values, mask, size in zip(features["pixel_values"], features["pixel_mask"], sizes, strict=True):
        assert mask.sum() == size[0] * size[1]
        assert mask[: size[0], : size[1]].all()
        assert (values[:, mask == 0] == 0).all()


def test_pil_twin_equals_official_preprocessing(photo):
    """The released code: PIL bilinear on uint8, then mean and deviation in 0-255 units."""
    size = get_resized_image_size(photo.size[::-1], SizeDict(**SMALL))
    resized = np.asarray(photo.convert("RGB").resize(size[::-1], Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    mean, std = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
    expected = (resized - mean[:, None, None]) / std[:, None, None]
    (values,) = YosoImageProcessorPil(size=SMALL)(photo, return_tensors="np")["pixel_values"]
    np.testing.assert_allclose(values[:, : size[0], : size[1]], expected, atol=1e-5)


def test_backends_agree_within_two_grey_levels(sample):
    first, second = (
        cls()(sample["images"], sample["maps"], sample["classes"], return_tensors="pt")
        for cls in (YosoImageProcessor, YosoImageProcessorPil)
    )
    difference = (first["pixel_values"] - second["pixel_values"]).abs()
    assert difference.max() <= 2.01 * GREY_LEVEL
    assert difference.mean() <= 0.5 * GREY_LEVEL
    assert torch.equal(first["pixel_mask"], second["pixel_mask"])
    for key in ("mask_labels", "class_labels"):
        assert all(torch.equal(a, b) for a, b in zip(first[key], second[key], strict=True))


@both_backends
def test_size_options(processor_class, photo):
    processor = processor_class(size=SMALL)
    features = processor(photo, size={"height": 40, "width": 70}, return_tensors="pt")
    assert features["pixel_values"].shape == (1, 3, 64, 96)
    assert features["pixel_mask"].sum() == 40 * 70
    features = processor(photo, size=48, size_divisor=64, return_tensors="pt")
    assert features["pixel_values"].shape == (1, 3, 64, 128)
    features = processor(photo, pad_size={"height": 160, "width": 200}, return_tensors="pt")
    assert features["pixel_values"].shape == (1, 3, 160, 200)
    features = processor(photo, do_pad=False, return_tensors="pt")
    assert features["pixel_values"].shape[-2:] == get_resized_image_size(photo.size[::-1], SizeDict(**SMALL))
    assert features["pixel_mask"].all()
    features = processor(np.array(photo)[:50, :60], do_resize=False, do_rescale=False, do_normalize=False)
    assert np.array_equal(
        np.asarray(features["pixel_values"][0])[:, :50, :60].transpose(1, 2, 0), np.array(photo)[:50, :60]
    )
    with pytest.raises(ValueError, match="`size` must have the keys"):
        processor(photo, size={"longest_edge": 100})
    with pytest.raises(ValueError, match="`size` must have the keys"):
        processor_class(size={"max_height": 100, "max_width": 100})


# --- kinds of input


def with_exif_orientation(image, orientation):
    image = image.copy()
    image.getexif()[0x0112] = orientation
    return image


def sixteen_bit(image):
    return np.array(image.convert("L")).astype(np.uint16) * 257


INPUT_KINDS = {
    "array HWC": (lambda im: np.array(im), None),
    "array CHW": (lambda im: np.array(im).transpose(2, 0, 1), None),
    "tensor CHW": (lambda im: torch.from_numpy(np.array(im)).permute(2, 0, 1), None),
    "tensor HWC": (lambda im: torch.from_numpy(np.array(im)), None),
    "batch of tensors": (lambda im: torch.from_numpy(np.array(im))[None], None),
    "int64 tensor": (lambda im: torch.from_numpy(np.array(im)).long(), None),
    "mirrored view": (lambda im: np.array(im)[:, ::-1], lambda im: im.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
    "uint16 array": (lambda im: np.array(im).astype(np.uint16) * 257, None),
    "big-endian uint16 array": (lambda im: (np.array(im).astype(np.uint16) * 257).astype(">u2"), None),
    "opaque RGBA": (lambda im: im.convert("RGBA"), None),
    "half transparent RGBA": (lambda im: Image.merge("RGBA", (*im.split(), im.getchannel(0))), None),
    "RGBA array": (lambda im: np.array(im.convert("RGBA")), None),
    "grey": (lambda im: im.convert("L"), lambda im: im.convert("L")),
    "grey with alpha": (lambda im: im.convert("LA"), lambda im: im.convert("L")),
    "grey array HW": (lambda im: np.array(im.convert("L")), lambda im: im.convert("L")),
    "grey array HW1": (lambda im: np.array(im.convert("L"))[..., None], lambda im: im.convert("L")),
    "16-bit PIL": (lambda im: Image.fromarray(sixteen_bit(im)), lambda im: im.convert("L")),
    "32-bit PIL": (lambda im: Image.fromarray(sixteen_bit(im).astype(np.int32)), lambda im: im.convert("L")),
    "32-bit PIL of bytes": (lambda im: im.convert("I"), lambda im: im.convert("L")),
    "16-bit array": (sixteen_bit, lambda im: im.convert("L")),
    "black and white": (lambda im: im.convert("1"), lambda im: im.convert("1").convert("L")),
    "bool array": (lambda im: np.array(im.convert("1")), lambda im: im.convert("1").convert("L")),
    "palette": (lambda im: im.quantize(64), lambda im: im.quantize(64).convert("RGB")),
    "CMYK": (lambda im: im.convert("CMYK"), lambda im: im.convert("CMYK").convert("RGB")),
    "YCbCr": (lambda im: im.convert("YCbCr"), lambda im: im.convert("YCbCr").convert("RGB")),
    "turned by EXIF": (
        lambda im: with_exif_orientation(im.transpose(Image.Transpose.ROTATE_90), 6),
        None,
    ),
}


@both_backends
@pytest.mark.parametrize("kind", INPUT_KINDS)
def test_input_kinds_equal_the_rgb_image(processor_class, kind, photo, recwarn):
    photo = photo.convert("RGB").crop((100, 50, 340, 230))
    make, make_expected = INPUT_KINDS[kind]
    expected = (make_expected(photo) if make_expected else photo).convert("RGB")
    processor = processor_class(size=SMALL)
    actual, expected = (processor(image, return_tensors="pt")["pixel_values"] for image in (make(photo), expected))
    torch.testing.assert_close(actual, expected, atol=0, rtol=0)
    assert not recwarn.list


@both_backends
@pytest.mark.parametrize("scale", [1, 255])
def test_float_input(processor_class, scale, photo):
    """Floating images are not quantised, so only the rounding of the resized bytes differs."""
    processor = processor_class(size=SMALL)
    expected = processor(photo, return_tensors="pt")["pixel_values"]
    image = np.array(photo).astype(np.float32) * (scale / 255)
    actual = processor(image, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(actual, expected, atol=1.01 * GREY_LEVEL, rtol=0)
    rescaled = processor(np.array(photo) / 255, do_rescale=False, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(actual, rescaled, atol=1e-4, rtol=0)


@both_backends
def test_palette_with_transparency(processor_class, photo):
    image = photo.quantize(16)
    image.info["transparency"] = bytes(range(0, 160, 10))
    expected = processor_class(size=SMALL)(image.convert("RGBA").convert("RGB"), return_tensors="pt")
    actual = processor_class(size=SMALL)(image, return_tensors="pt")
    assert torch.equal(actual["pixel_values"], expected["pixel_values"])


@both_backends
def test_files_and_nested_lists(processor_class, sample, tmp_path):
    processor = processor_class(size=SMALL)
    expected = processor(sample["images"], return_tensors="pt")["pixel_values"]
    paths = [str(path) for path in sample["paths"]]
    assert torch.equal(processor(paths, return_tensors="pt")["pixel_values"], expected)
    nested = [[sample["images"][0]], [np.array(sample["images"][1])]]
    assert torch.equal(processor(nested, return_tensors="pt")["pixel_values"], expected)
    Image.fromarray(sixteen_bit(sample["images"][0])).save(tmp_path / "sixteen.png")
    actual = processor(str(tmp_path / "sixteen.png"), return_tensors="pt")["pixel_values"]
    grey = processor(sample["images"][0].convert("L"), return_tensors="pt")["pixel_values"]
    assert torch.equal(actual, grey)


def test_sixteen_bit_range():
    values = torch.tensor([[0, 255, 256, 65535]], dtype=torch.int32).numpy().astype(np.uint16)
    assert read_image(values)[0].tolist() == [[0, 0, 1, 255]]
    assert read_image(Image.fromarray(values))[0].tolist() == [[0, 0, 1, 255]]


def test_without_convert_rgb_channels_stay(photo):
    rgba = np.array(photo.convert("RGBA"))
    processor = YosoImageProcessor(size=SMALL, do_convert_rgb=False)
    features = processor(rgba, image_mean=[0.0] * 4, image_std=[1.0] * 4, return_tensors="pt")
    assert features["pixel_values"].shape[1] == 4
    with pytest.raises(ValueError, match="4 channels, but `image_mean` has 3"):
        processor(rgba)


BAD_IMAGES = {
    "no width": (np.zeros((10, 0, 3), np.uint8), "no pixels"),
    "no pixels PIL": (Image.new("RGB", (0, 4)), "no pixels"),
    "two channels": (np.zeros((10, 12, 2), np.uint8), "channels"),
    "five channels": (torch.zeros(5, 10, 12, dtype=torch.uint8), "channels"),
    "one dimension": (np.zeros(10, np.uint8), "2 or 3 dimensions"),
    "five dimensions": (torch.zeros(1, 1, 3, 10, 12), "2 or 3 dimensions"),
    "nan": (np.full((10, 12, 3), np.nan), "NaN"),
    "infinity": (torch.full((3, 10, 12), torch.inf), "NaN"),
    "negative": (np.full((10, 12, 3), -1), "integers from -1 to -1"),
    "too large": (np.full((10, 12, 3), 70000), "integers from 70000"),
}


@both_backends
@pytest.mark.parametrize("name", BAD_IMAGES)
def test_bad_image_is_refused_by_index(processor_class, name):
    bad, message = BAD_IMAGES[name]
    with pytest.raises(ValueError, match=f"Image 1: .*{message}"):
        processor_class(size=SMALL)([np.zeros((10, 12, 3), np.uint8), bad])


@both_backends
def test_other_bad_input(processor_class, tmp_path):
    processor = processor_class(size=SMALL)
    with pytest.raises(ValueError, match="list of images is empty"):
        processor([])
    with pytest.raises(ValueError, match="not a NoneType"):
        processor([None])
    with pytest.raises(ValueError, match="not a int"):
        processor([[1, 2], [3, 4]])
    (tmp_path / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises((ValueError, OSError)):
        processor(str(tmp_path / "cut.png"))


# --- segmentation maps


def test_nearest_resize_equals_pil(sample):
    ids = torch.from_numpy(ids_of(sample["maps"][0]))
    for size in [(96, 143), (800, 1199), (333, 1000)]:
        expected = ids_of(sample["maps"][0].resize(size[::-1], Image.Resampling.NEAREST))
        assert (resize_id_map(ids, size).numpy() == expected).mean() > 0.999
        exact = interpolate(ids[None, None].double(), size=size, mode="nearest-exact")[0, 0].long()
        assert (resize_id_map(ids, size) == exact).float().mean() > 0.9999


@both_backends
def test_coco_maps_give_masks_and_classes(processor_class, sample):
    processor = processor_class(size=SMALL)
    features = processor(sample["images"], sample["maps"], sample["classes"], return_tensors="pt")
    padded_size = features["pixel_mask"].shape[1:]
    for index, (masks, labels) in enumerate(zip(features["mask_labels"], features["class_labels"], strict=True)):
        size = get_resized_image_size(sample["images"][index].size[::-1], SizeDict(**SMALL))
        resized = ids_of(sample["maps"][index].resize(size[::-1], Image.Resampling.NEAREST))
        present = sorted(set(np.unique(resized)) - {0})
        assert masks.dtype == torch.bool
        assert masks.shape == (len(present), *padded_size)
        assert labels.dtype == torch.int64
        assert labels.tolist() == [sample["classes"][index][segment_id] for segment_id in present]
        assert masks.sum(0).max() == 1
        assert not masks[:, features["pixel_mask"][index] == 0].any()
        expected = np.array([(resized == segment_id).sum() for segment_id in present])
        np.testing.assert_allclose(masks.flatten(1).sum(1).numpy(), expected, atol=5)


@both_backends
def test_compact_masks_say_the_same(processor_class, sample):
    arguments = (sample["images"], sample["maps"], sample["classes"])
    masks = processor_class(size=SMALL)(*arguments, return_tensors="pt")
    compact = processor_class(size=SMALL, return_compact_masks=True)(*arguments, return_tensors="pt")
    for index, ids in enumerate(compact["mask_labels"]):
        assert ids.dtype == torch.int32
        assert ids.shape == compact["pixel_mask"].shape[1:]
        numbers = torch.arange(len(compact["class_labels"][index]))[:, None, None]
        assert torch.equal(ids == numbers, masks["mask_labels"][index])
        assert (ids[compact["pixel_mask"][index] == 0] == -1).all()
        assert torch.equal(compact["class_labels"][index], masks["class_labels"][index])


def encode(ids, mapping=None, processor_class=YosoImageProcessor, **kwargs):
    """Ids (H, W) -> compact map and labels, at the size of the map."""
    ids = np.array(ids)
    processor = processor_class(do_resize=False, return_compact_masks=True, **kwargs)
    features = processor(np.zeros((*ids.shape[:2], 3), np.uint8), ids, mapping)
    height, width = ids.shape[:2]
    return np.asarray(features["mask_labels"][0])[:height, :width].tolist(), features["class_labels"][0].tolist()


@both_backends
def test_void_rules(processor_class):
    ids = [[0, 1, 1, 5], [0, 0, 7, 255]]
    keep = {"processor_class": processor_class}
    assert encode(ids, **keep) == ([[0, 1, 1, 2], [0, 0, 3, 4]], [0, 1, 5, 7, 255])
    assert encode(ids, ignore_index=255, **keep) == ([[0, 1, 1, 2], [0, 0, 3, -1]], [0, 1, 5, 7])
    assert encode(ids, ignore_index=0, **keep) == ([[-1, 0, 0, 1], [-1, -1, 2, 3]], [1, 5, 7, 255])
    reduced = encode(ids, ignore_index=255, do_reduce_labels=True, **keep)
    assert reduced == ([[-1, 0, 0, 1], [-1, -1, 2, -1]], [0, 4, 6])
    mapping = {1: 3, 5: 0, 7: -1, 255: 3}
    assert encode(ids, mapping, **keep) == ([[-1, 0, 0, 1], [-1, -1, -1, 2]], [3, 0, 3])
    assert encode(ids, {**mapping, 0: 9}, **keep) == ([[0, 1, 1, 2], [0, 0, -1, 3]], [9, 3, 0, 3])
    assert encode(ids, {1: 3, 5: 0, 7: 2}, ignore_index=255, do_reduce_labels=True, **keep) == (
        [[-1, 0, 0, -1], [-1, -1, 1, -1]],
        [2, 1],
    )


def test_rgb_and_id_maps_agree():
    ids = np.array([[0, 70000], [300, 5]])
    rgb = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
    mapping = {70000: 1, 300: 2, 5: 3, 0: 4}
    expected = ([[-1, 2], [1, 0]], [3, 2, 1])
    assert encode(rgb, mapping) == expected
    assert encode(ids, {key: value for key, value in mapping.items() if key}) == expected
    image = np.zeros((2, 2, 3), np.uint8)
    processor = YosoImageProcessor(do_resize=False, return_compact_masks=True)
    kinds = [Image.fromarray(rgb), rgb, torch.from_numpy(rgb.copy())]
    for features in [processor(image, kind, mapping) for kind in kinds]:
        assert features["class_labels"][0].tolist() == expected[1]
    features = processor([image] * 3, np.stack([ids] * 3), {70000: 1, 300: 2, 5: 3})
    assert [labels.tolist() for labels in features["class_labels"]] == [expected[1]] * 3
    features = processor(image, torch.from_numpy(ids)[None].float(), {70000: 1, 300: 2, 5: 3})
    assert features["class_labels"][0].tolist() == expected[1]
    features = processor(image, Image.fromarray(ids.astype(np.int32)), {70000: 1, 300: 2, 5: 3})
    assert features["class_labels"][0].tolist() == expected[1]


def test_map_without_segments():
    processor = YosoImageProcessor(do_resize=False)
    features = processor(np.zeros((10, 12, 3), np.uint8), np.zeros((10, 12, 3), np.uint8))
    assert features["mask_labels"][0].shape == (0, 32, 32)
    assert features["class_labels"][0].shape == (0,)
    assert features["class_labels"][0].dtype == torch.int64


@both_backends
def test_bad_maps_are_refused(processor_class):
    processor = processor_class(size=SMALL)
    images = [np.zeros((10, 12, 3), np.uint8)] * 2
    good = np.ones((10, 12), np.uint8)
    with pytest.raises(ValueError, match=r"Image 1: .*size \(12, 10\) but the image \(10, 12\)"):
        processor(images, [good, good.T])
    with pytest.raises(ValueError, match="2 images but 1 segmentation maps"):
        processor(images, [good])
    with pytest.raises(ValueError, match=r"Image 1: .*ids \[9\].*`instance_id_to_semantic_id`"):
        processor(images, [good, 9 * good], {1: 0})
    with pytest.raises(ValueError, match="2 images but 1 dicts"):
        processor(images, [good, good], [{1: 0}])
    with pytest.raises(ValueError, match=r"Image 0: .*not whole numbers"):
        processor(images, [good * 0.5, good])
    with pytest.raises(ValueError, match=r"Image 0: .*not whole numbers"):
        processor(images, [good * np.nan, good])
    with pytest.raises(ValueError, match="Image 1: a segmentation map has the shape"):
        processor(images, [good, np.zeros((10, 12, 2), np.uint8)])
    with pytest.raises(ValueError, match=r"Image 1: .*not a str"):
        processor(images, [good, "map.png"])


# --- saving


@both_backends
def test_round_trip(processor_class, tmp_path):
    saved = processor_class(
        size={"shortest_edge": 512, "longest_edge": 800},
        threshold=0.2,
        mask_threshold=0.4,
        overlap_mask_area_threshold=0.6,
        label_ids_to_fuse=range(3, 5),
        ignore_index=255,
    )
    saved.save_pretrained(tmp_path)
    loaded = processor_class.from_pretrained(tmp_path)
    assert loaded.to_dict() == saved.to_dict()
    assert (loaded.threshold, loaded.mask_threshold, loaded.overlap_mask_area_threshold) == (0.2, 0.4, 0.6)
    assert loaded.label_ids_to_fuse == [3, 4]
    other = {YosoImageProcessor: YosoImageProcessorPil, YosoImageProcessorPil: YosoImageProcessor}[processor_class]
    assert other.from_pretrained(tmp_path).to_dict() == saved.to_dict()


@pytest.mark.parametrize("settings", [{"threshold": 2}, {"mask_threshold": -0.1}, {"size_divisor": 0}])
def test_impossible_settings_are_refused_when_the_processor_is_made(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        YosoImageProcessor(**settings)


def test_paths_are_opened_and_an_empty_batch_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), (10, 20, 30)).save(tmp_path / "photo.png")
    processor = YosoImageProcessor(size={"shortest_edge": 32, "longest_edge": 64})
    by_path, by_text = processor(tmp_path / "photo.png"), processor(str(tmp_path / "photo.png"))
    assert np.array_equal(by_path["pixel_values"], by_text["pixel_values"])
    with pytest.raises(ValueError, match="empty"):
        processor(np.zeros((0, 10, 10, 3), dtype=np.uint8))
