"""`YosoPredictor`: what it takes, what it returns, order, errors, and files in common formats."""

import itertools
import json
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from transformers_yoso.inference import (
    CheckpointError,
    CocoPanopticWriter,
    FailedPrediction,
    ImageReadError,
    MissingFileError,
    OutputError,
    Prediction,
    RleLinesWriter,
    YosoPredictor,
)
from transformers_yoso.inference.checkpoint import size_of_edges
from transformers_yoso.inference.coco import run_lengths
from transformers_yoso.inference.photo_reading import is_photo
from transformers_yoso.models.configuration_yoso import YosoConfig
from transformers_yoso.visualization import named_colors

ROOT = Path(__file__).resolve().parents[1]
PHOTO = ROOT / "assets" / "facade_demo.jpg"
CHECKPOINT = ROOT / "checkpoints" / "yoso-lite0-facade"


@pytest.fixture(scope="module")
def predictor() -> YosoPredictor:
    """The shipped model on small inputs, with thresholds so low that it always finds something."""
    size = {"shortest_edge": 128, "longest_edge": 192}
    return YosoPredictor.from_pretrained(
        CHECKPOINT, device="cpu", size=size, threshold=0.05, overlap_mask_area_threshold=0.2
    )


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A part of a facade, 160 pixels high and 192 wide."""
    path = tmp_path_factory.mktemp("photo") / "facade.png"
    Image.open(PHOTO).crop((60, 180, 252, 340)).save(path)
    return path


@pytest.fixture(scope="module")
def photos(shared_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Parts of four facades, of different sizes."""
    folder = tmp_path_factory.mktemp("photos")
    for k, path in enumerate(sorted((shared_dir / "data" / "facade" / "val").glob("*.jpg"))[:4]):
        Image.open(path).crop((150, 150, 310 + 16 * k, 310)).save(folder / f"{path.stem}.png")
    return sorted(folder.glob("*.png"))


@pytest.fixture(scope="module")
def prediction(predictor: YosoPredictor, photo: Path) -> Prediction:
    return predictor(photo)


def test_prediction_is_that_of_model_and_image_processor(
    predictor: YosoPredictor, prediction: Prediction, photo: Path
) -> None:
    inputs = predictor.image_processor(Image.open(photo), return_tensors="pt")
    with torch.no_grad():
        outputs = predictor.model(**inputs)
    [expected] = predictor.image_processor.post_process_panoptic_segmentation(outputs, target_sizes=[(160, 192)])
    assert len(prediction.segments) >= 3
    assert prediction.map.dtype == np.int32 and prediction.size == (160, 192)
    assert (prediction.map == expected["segmentation"].numpy()).all()
    found = [{key: info[key] for key in ("id", "label_id", "was_fused", "score")} for info in prediction.segments_info]
    assert found == [{key: info[key] for key in found[0]} for info in expected["segments_info"]]


def test_bytes_of_a_file_are_an_image(predictor: YosoPredictor, prediction: Prediction, photo: Path) -> None:
    assert (predictor(photo.read_bytes()).map == prediction.map).all()
    failed = predictor([photo.read_bytes()[:400], photo.read_bytes()], on_error="return")
    assert not failed[0] and (failed[1].map == prediction.map).all()
    with pytest.raises(ImageReadError, match="an image given as bytes"):
        predictor(b"no photo")


def test_the_checkpoints_own_colours_are_drawn(predictor: YosoPredictor, photo: Path, tmp_path: Path) -> None:
    """By name, so that a label that stays keeps its colour; the others have those that they always have."""
    labels = list(predictor.id2label.values())
    config = predictor.model.config
    colors = {name: [10 * k, 200, 255 - 10 * k] for k, name in enumerate(labels)}
    colored = YosoPredictor(predictor.model, predictor.image_processor)
    plain = predictor(photo)
    config.label_colors = colors
    try:
        drawn = colored(photo)
        config.save_pretrained(tmp_path)
    finally:
        config.label_colors = None
    pixels = np.asarray(drawn.draw(alpha=1.0, draw_labels=False))
    for segment in drawn.segments:
        if segment.instance == 0:
            shown, counts = np.unique(pixels[drawn.map == segment.id], axis=0, return_counts=True)
            assert colors[segment.label] in shown[counts > 0.2 * counts.sum()].tolist()
    assert (np.asarray(plain.draw()) != np.asarray(drawn.draw())).any()
    other = plain.draw(colors={label: tuple(colors[name]) for label, name in predictor.id2label.items()})
    assert (np.asarray(other) == np.asarray(drawn.draw())).all()
    relabelled = YosoConfig.from_pretrained(tmp_path, id2label={0: "door", 1: labels[0]})
    assert named_colors(relabelled.id2label, relabelled.label_colors) == {1: tuple(colors[labels[0]])}


def test_segments_know_their_name_area_box_and_mask(prediction: Prediction) -> None:
    for segment in prediction.segments:
        ys, xs = np.nonzero(prediction.map == segment.id)
        assert segment.label == prediction.id2label[segment.label_id]
        assert segment.area == len(ys) == segment.mask.sum()
        assert segment.box == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
        assert segment.was_fused == (segment.label_id in prediction.stuff_label_ids)


def test_every_kind_of_image_gives_the_same_result(
    predictor: YosoPredictor, prediction: Prediction, photo: Path
) -> None:
    pixels = np.asarray(Image.open(photo))
    kinds = [Image.open(photo), str(photo), pixels, torch.from_numpy(pixels.copy()).permute(2, 0, 1)]
    for kind in kinds:
        assert (predictor(kind).map == prediction.map).all()
    batch = predictor(np.stack([pixels, pixels]))
    assert len(batch) == 2 and all((result.map == prediction.map).all() for result in batch)


def test_list_iterator_and_stream_give_the_photos_results_in_order(
    predictor: YosoPredictor, photos: list[Path]
) -> None:
    one_by_one = [predictor(photo) for photo in photos]
    listed = predictor(photos, batch_size=4, num_workers=3)
    streamed = list(predictor(iter(photos)))
    assert isinstance(listed, list)
    for single, batched, stream, path in zip(one_by_one, listed, streamed, photos, strict=True):
        assert single.source == batched.source == stream.source == str(path)
        assert (stream.map == single.map).all()
        assert (batched.map == single.map).mean() > 0.98


@pytest.mark.parametrize("subtask", ["panoptic", "instance", "semantic"])
def test_subtasks(predictor: YosoPredictor, subtask: str, photo: Path) -> None:
    result = predictor(photo, subtask=subtask)
    ids = [segment.id for segment in result.segments]
    assert len(set(ids)) == len(ids) > 0 and set(np.unique(result.map)) - {0} == set(ids)
    if subtask == "semantic":
        assert result.map.min() > 0
        assert all(segment.score is None and segment.id == segment.label_id + 1 for segment in result.segments)
    else:
        assert all(0 <= segment.score <= 1 for segment in result.segments)
    assert result.draw().size == (192, 160)
    assert len(result.to_coco().annotation["segments_info"]) == len(ids)


def test_thresholds_reach_the_post_processing(predictor: YosoPredictor, prediction: Prediction, photo: Path) -> None:
    assert predictor(photo, threshold=1.0).segments == []
    scores = sorted(segment.score for segment in prediction.segments)
    middle = (scores[0] + scores[-1]) / 2
    above = [segment.score for segment in predictor(photo, threshold=middle).segments]
    assert scores[0] < middle < min(above)
    for wrong in ({"threshold": 2}, {"subtask": "depth"}, {"on_error": "ignore"}, {"batch_size": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            predictor([photo], **wrong)


def test_an_empty_result_can_be_drawn_and_exported(predictor: YosoPredictor, photo: Path) -> None:
    empty = predictor(photo, threshold=1.0)
    assert (np.asarray(empty.draw(legend=True)) == np.asarray(empty.image)).all()
    assert empty.to_rle() == [] and empty.to_coco().annotation["segments_info"] == []
    assert not empty.to_coco().rgb.any()


def test_a_broken_photo_raises_at_its_turn_and_the_others_are_not_lost(
    predictor: YosoPredictor, photos: list[Path], tmp_path: Path
) -> None:
    half = tmp_path / "half.jpg"
    half.write_bytes(PHOTO.read_bytes()[:9000])
    mixed = [photos[0], half, photos[1], tmp_path / "nowhere.jpg", photos[2]]
    stream = predictor.stream(mixed, batch_size=2)
    assert next(stream).source == str(photos[0])
    with pytest.raises(ImageReadError, match=r"half\.jpg"):
        next(stream)
    assert next(stream).source == str(photos[1])
    with pytest.raises(MissingFileError, match=r"nowhere\.jpg"):
        next(stream)
    assert next(stream).source == str(photos[2])
    with pytest.raises(StopIteration):
        next(stream)

    returned = predictor(mixed, batch_size=2, on_error="return")
    assert [bool(result) for result in returned] == [True, False, True, False, True]
    assert isinstance(returned[1], FailedPrediction) and returned[1].source == str(half)
    assert "\n" not in str(returned[1].error)


@pytest.mark.parametrize(
    "image", [ROOT / "LICENSE", np.zeros((0, 4, 3), np.uint8), np.full((8, 8, 3), np.nan), np.zeros((9, 7, 5))]
)
def test_what_is_no_image_is_named_in_one_line(predictor: YosoPredictor, image: object) -> None:
    with pytest.raises(ImageReadError) as caught:
        predictor(image)
    assert "\n" not in str(caught.value)


def test_an_error_of_the_iterator_comes_after_the_results_before_it(
    predictor: YosoPredictor, photos: list[Path]
) -> None:
    def failing() -> Iterator[Path]:
        yield photos[0]
        raise RuntimeError("disk gone")

    stream = predictor(failing())
    assert next(stream).source == str(photos[0])
    with pytest.raises(RuntimeError, match="disk gone"):
        next(stream)


def test_an_endless_iterator_is_read_only_a_little_ahead_and_its_threads_end(
    predictor: YosoPredictor, photo: Path
) -> None:
    before = threading.active_count()
    pulled = itertools.count()
    small = Image.open(photo).resize((64, 64))

    def endless() -> Iterator[Image.Image]:
        for _ in pulled:
            yield small

    with predictor(endless()) as stream:
        for _ in range(3):
            next(stream)
        time.sleep(0.5)
        assert next(pulled) < 20
    deadline = time.monotonic() + 30
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert threading.active_count() <= before
    with pytest.raises(StopIteration):
        next(stream)


def test_stages_work_in_threads_of_their_own(predictor: YosoPredictor, photos: list[Path]) -> None:
    names: dict[str, str] = {}
    forward, read = predictor.model.forward, predictor.image_processor.process_image
    try:
        predictor.model.forward = lambda **kw: (names.update(model=threading.current_thread().name), forward(**kw))[1]
        predictor.image_processor.process_image = lambda *args, **kw: (
            names.setdefault("read", threading.current_thread().name),
            read(*args, **kw),
        )[1]
        list(predictor.stream(photos[:2]))
    finally:
        del predictor.model.forward, predictor.image_processor.process_image
    assert len({names["model"], names["read"], threading.current_thread().name}) == 3


def test_coco_export_holds_the_map_and_its_segments(prediction: Prediction) -> None:
    annotation, rgb = prediction.to_coco(image_id=5, category_ids={k: 10 * k + 1 for k in range(10)})
    assert annotation["image_id"] == 5 and annotation["file_name"] == "facade.png"
    ids = rgb.astype(np.int64) @ [1, 256, 65536]
    assert (ids == prediction.map).all()
    for entry, segment in zip(annotation["segments_info"], prediction.segments, strict=True):
        assert entry["category_id"] == 10 * segment.label_id + 1
        assert entry["area"] == (ids == entry["id"]).sum()
        x, y, width, height = entry["bbox"]
        assert segment.mask[y : y + height, x : x + width].sum() == entry["area"]
    json.dumps(annotation)


def test_run_lengths_decode_to_the_masks(prediction: Prediction) -> None:
    coco_mask = pytest.importorskip("pycocotools.mask")
    runs = prediction.to_rle()
    for entry, segment in zip(json.loads(json.dumps(runs)), prediction.segments, strict=True):
        assert (coco_mask.decode(entry["segmentation"]).astype(bool) == segment.mask).all()
        assert entry["area"] == segment.area and entry["label"] == segment.label


def test_run_lengths_of_a_small_map() -> None:
    rows = np.array([[1, 1, 0], [2, 1, 2]])
    assert run_lengths(rows, 3) == [[0, 1, 1, 2, 2], [1, 1, 3, 1], [6]]


def test_supervision_detections(prediction: Prediction) -> None:
    pytest.importorskip("supervision")
    detections = prediction.to_supervision()
    assert len(detections) == len(prediction.segments)
    for k, segment in enumerate(prediction.segments):
        assert (detections.mask[k] == segment.mask).all()
        assert tuple(detections.xyxy[k]) == segment.box
        assert detections.class_id[k] == segment.label_id and detections.data["class_name"][k] == segment.label
        assert detections.confidence[k] == pytest.approx(segment.score)


def test_writers_make_a_folder_that_the_reader_of_the_format_opens(
    predictor: YosoPredictor, photos: list[Path], tmp_path: Path
) -> None:
    from transformers_yoso.data import CocoPanopticDataset

    results = predictor(photos[:3])
    with (
        CocoPanopticWriter(tmp_path / "maps", predictor.id2label, predictor.stuff_label_ids) as coco,
        RleLinesWriter(tmp_path / "runs.jsonl") as lines,
    ):
        for result in results:
            coco.write(result)
            lines.write(result)
    dataset = CocoPanopticDataset(photos[0].parent, tmp_path / "maps", tmp_path / "maps" / "panoptic.json")
    assert len(dataset) == 3 and dataset.categories.stuff_label_ids == predictor.stuff_label_ids
    for sample, result in zip(dataset, results, strict=True):
        assert sample.class_labels.tolist() == [segment.label_id for segment in result.segments]
        assert ((sample.segment_map.numpy() + 1 > 0) == (result.map > 0)).all()
    written = [json.loads(line) for line in (tmp_path / "runs.jsonl").read_text().splitlines()]
    assert [line["file_name"] for line in written] == [str(photo) for photo in photos[:3]]
    assert [len(line["segments"]) for line in written] == [len(result.segments) for result in results]


def test_photos_are_known_by_the_endings_that_pillow_opens() -> None:
    files = ["a.JPG", "b.webp", "c.tiff", "d.mpg", "e.pdf", "f.h5", "g.parquet", "h.txt", "i"]
    assert [file for file in files if is_photo(file)] == ["a.JPG", "b.webp", "c.tiff"]


@pytest.mark.parametrize("edges", [(96, 64), (16, 64)])
def test_senseless_edges_are_refused(edges: tuple[int, int]) -> None:
    assert size_of_edges((64, 96)) == {"shortest_edge": 64, "longest_edge": 96}
    with pytest.raises(ValueError, match=f"32 <= SHORTEST <= LONGEST, but is {edges[0]} {edges[1]}"):
        size_of_edges(edges)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"):
        CocoPanopticWriter(tmp_path / "file" / "maps", {}, [])
    with pytest.raises(OutputError, match="file"):
        RleLinesWriter(tmp_path / "file" / "runs.jsonl")


def test_checkpoints_that_are_none_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        YosoPredictor.from_pretrained(tmp_path)
    other = tmp_path / "other"
    shutil.copytree(CHECKPOINT, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"model_type": "resnet"}))
    with pytest.raises(CheckpointError, match="'resnet'"):
        YosoPredictor.from_pretrained(other)
    (other / "config.json").write_text(json.dumps(config))
    (other / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="other"):
        YosoPredictor.from_pretrained(other)


def test_dtype_and_processor_values_can_be_chosen(photo: Path) -> None:
    predictor = YosoPredictor.from_pretrained(
        CHECKPOINT, device="cpu", dtype="bfloat16", size={"shortest_edge": 64, "longest_edge": 96}, threshold=0.05
    )
    assert predictor.dtype == torch.bfloat16 and predictor.image_processor.threshold == 0.05
    assert predictor(photo).size == (160, 192)
    with pytest.raises(ValueError, match="dtype"):
        YosoPredictor.from_pretrained(CHECKPOINT, dtype="int8")
