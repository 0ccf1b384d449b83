"""Transformers' own common tests at the installed version, laid down by scripts/fetch_common_tests.py.

They are not part of this repository. Without them the import fails, so that no run passes for having skipped them.
"""

import sys
from pathlib import Path

import transformers

FOLDER = Path(__file__).resolve().parents[2] / ".cache" / "transformers-tests" / transformers.__version__
if not (FOLDER / ".complete").exists():
    raise ImportError(
        f"The common tests of transformers {transformers.__version__} are missing. "
        "Fetch them with `python scripts/fetch_common_tests.py` (`make test` does it)."
    )
sys.path.insert(0, str(FOLDER))

from transformers_common_tests import test_image_processing_common  # noqa: E402
from transformers_common_tests.test_configuration_common import ConfigTester  # noqa: E402
from transformers_common_tests.test_modeling_common import ModelTesterMixin, floats_tensor  # noqa: E402

ImageProcessingTester = test_image_processing_common.ImageProcessingTester
ImageProcessingTestMixin = test_image_processing_common.ImageProcessingTestMixin
PostProcessSemanticSegmentationTestMixin = test_image_processing_common.PostProcessSemanticSegmentationTestMixin

__all__ = [
    "ConfigTester",
    "ImageProcessingTestMixin",
    "ImageProcessingTester",
    "ModelTesterMixin",
    "PostProcessSemanticSegmentationTestMixin",
    "floats_tensor",
    "test_image_processing_common",
]
