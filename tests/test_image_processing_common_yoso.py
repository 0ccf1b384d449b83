"""Transformers' own common image processor tests, run on both YOSO processors."""

import unittest
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image

from common import (
    ImageProcessingTester,
    ImageProcessingTestMixin,
    PostProcessSemanticSegmentationTestMixin,
    test_image_processing_common,
)
from transformers_yoso import YosoForUniversalSegmentationOutput, YosoImageProcessor, YosoImageProcessorPil

PHOTO = Path(__file__).resolve().parents[1] / "assets" / "facade_demo.jpg"


class YosoImageProcessingTester(ImageProcessingTester):
    """Makes the small processors and inputs of the common tests, and says what size must come out."""

    def __init__(self) -> None:
        self.batch_size = 7
        self.num_channels = 3
        self.min_resolution = 30
        self.max_resolution = 400
        self.num_labels = 10
        self.do_convert_rgb = True

    def prepare_image_processor_dict(self) -> dict[str, Any]:
        return {
            "size": {"shortest_edge": 80, "longest_edge": 133},
            "image_mean": [0.5, 0.4, 0.3],
            "image_std": [0.3, 0.2, 0.25],
            "threshold": 0.6,
            "label_ids_to_fuse": [2, 5],
            "do_convert_rgb": self.do_convert_rgb,
        }

    def expected_output_image_shape(self, images: list[Any]) -> tuple[int, int, int]:
        """Shortest edge 80 unless the longest passes 133, rounded half up; the batch's maximum, rounded up to 32."""
        sizes = []
        for image in images:
            if isinstance(image, Image.Image):
                size = np.array([image.height, image.width])
            else:
                size = np.array(image.shape[:2] if isinstance(image, np.ndarray) else image.shape[1:])
            scale = min(80 / size.min(), 133 / size.max())
            sizes.append(np.floor(size * scale + 0.5))
        height, width = (int(-(-edge // 32) * 32) for edge in np.max(sizes, axis=0))
        return self.num_channels, height, width

    def prepare_post_process_semantic_segmentation_inputs(self) -> tuple[dict[str, Any], dict[str, Any]]:
        torch.manual_seed(0)
        outputs = YosoForUniversalSegmentationOutput(
            class_queries_logits=torch.randn(self.batch_size, 6, self.num_labels + 1),
            masks_queries_logits=torch.randn(self.batch_size, 6, 8, 16),
        )
        return {"outputs": outputs}, {"num_labels": self.num_labels, "height": 32, "width": 64}


class YosoImageProcessingTest(ImageProcessingTestMixin, PostProcessSemanticSegmentationTestMixin, unittest.TestCase):
    image_processing_classes = {"torchvision": YosoImageProcessor, "pil": YosoImageProcessorPil}  # noqa: RUF012
    test_cast_dtype = True

    def setUp(self) -> None:
        self.image_processor_tester = YosoImageProcessingTester()
        # The photo of two cats that these tests fetch from the Hub; here one of our own.
        local_photo = patch.object(test_image_processing_common, "load_test_image", lambda url: Image.open(PHOTO))
        local_photo.start()
        self.addCleanup(local_photo.stop)

    @property
    def image_processor_dict(self) -> dict[str, Any]:
        return self.image_processor_tester.prepare_image_processor_dict()

    def test_call_numpy_4_channels(self) -> None:
        self.image_processor_tester.do_convert_rgb = False  # in older releases this test leaves it at its default
        super().test_call_numpy_4_channels()

    @unittest.skip("its script runs AutoImageProcessor in a new process without importing transformers_yoso")
    def test_pil_can_run_without_torchvision(self) -> None:
        pass
