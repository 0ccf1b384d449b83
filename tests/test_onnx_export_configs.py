"""Every shipped configuration, and further backbones, through the whole export with its check; some minutes each."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import set_seed

from tiny_yoso import tiny_model
from transformers_yoso import YosoForUniversalSegmentation
from transformers_yoso.conversion.convert import released_config, released_image_processor
from transformers_yoso.conversion.dataset_specs import DATASET_SPECS
from transformers_yoso.export import OnnxPredictor, export_onnx
from transformers_yoso.models.image_processing_pil_yoso import YosoImageProcessorPil

pytestmark = pytest.mark.slow
CHECKPOINT = Path(__file__).resolve().parents[1] / "checkpoints" / "yoso-lite0-facade"


@pytest.mark.parametrize("dataset", DATASET_SPECS)
def test_released_configurations(dataset, tmp_path):
    spec = DATASET_SPECS[dataset]
    set_seed(0)
    path = export_onnx(
        YosoForUniversalSegmentation(released_config(spec)), released_image_processor(spec), tmp_path / "model.onnx"
    )
    predictor = OnnxPredictor(path)
    assert len(predictor.id2label) == spec.num_labels
    assert predictor.session.get_outputs()[1].shape[1] in (spec.num_queries, "num_queries")


def test_shipped_checkpoint(shared_dir, tmp_path):
    model = YosoForUniversalSegmentation.from_pretrained(CHECKPOINT)
    image_processor = YosoImageProcessorPil.from_pretrained(CHECKPOINT)
    predictor = OnnxPredictor(export_onnx(model, image_processor, tmp_path / "model.onnx"))
    for path in sorted((shared_dir / "data" / "facade" / "val").glob("*.jpg"))[:3]:
        photo = Image.open(path)
        with torch.no_grad():
            outputs = model.eval()(**image_processor(photo, return_tensors="pt"))
        (wanted,) = image_processor.post_process_panoptic_segmentation(outputs, target_sizes=[photo.size[::-1]])
        result = predictor(photo)
        assert [info["label_id"] for info in result["segments_info"]] == [
            info["label_id"] for info in wanted["segments_info"]
        ]
        assert (torch.from_numpy(result["segmentation"]) == wanted["segmentation"]).float().mean() > 0.999


@pytest.mark.parametrize("backbone", ["test_convnext", "test_efficientnet", "mobilenetv3_small_050"])
def test_other_backbones(backbone, tmp_path):
    processor = YosoImageProcessorPil(threshold=0.0)
    assert export_onnx(tiny_model(backbone=backbone), processor, tmp_path / "model.onnx").is_file()


def test_grid_sample(tmp_path):
    processor = YosoImageProcessorPil(threshold=0.0)
    path = export_onnx(tiny_model(), processor, tmp_path / "model.onnx", deformable_conv="grid_sample")
    assert path.is_file()
