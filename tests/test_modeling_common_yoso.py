"""Transformers' own common model and config tests, run on YOSO.

`PipelineTesterMixin` is not among them: it needs tiny models from the Hub and test files that the source archive lacks.
"""

import copy
import unittest
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import torch
from transformers import TimmBackboneConfig, set_seed
from transformers.testing_utils import torch_device

from common import ConfigTester, ModelTesterMixin, floats_tensor
from transformers_yoso import YosoConfig, YosoForUniversalSegmentation, YosoModel


class YosoModelTester:
    """Makes the tiny models and inputs of the common tests."""

    batch_size = 2
    image_size = 64
    num_labels = 4
    num_queries = 10
    hidden_dim = 32
    num_stages = 2
    num_attention_heads = 4
    is_training = True
    # What the common tests of hidden states and attentions call these.
    hidden_size = hidden_dim
    num_hidden_layers = num_stages
    seq_length = num_queries

    def __init__(self, parent: unittest.TestCase) -> None:
        self.parent = parent

    def get_config(self) -> YosoConfig:
        return YosoConfig(
            backbone_config=TimmBackboneConfig(
                # Not frozen: Transformers' TimmBackbone cannot re-initialise the buffers of frozen batch norms.
                backbone="test_resnet",
                out_indices=[-4, -3, -2, -1],
            ),
            pyramid_channels=[8, 16, 16, 24],
            aggregation_dim=16,
            hidden_dim=self.hidden_dim,
            num_queries=self.num_queries,
            num_stages=self.num_stages,
            num_attention_heads=self.num_attention_heads,
            feedforward_dim=64,
            train_num_points=64,
            num_labels=self.num_labels,
        )

    def prepare_config_and_inputs_for_common(self) -> tuple[YosoConfig, dict[str, torch.Tensor]]:
        size = (self.batch_size, self.image_size, self.image_size)
        inputs = {
            "pixel_values": floats_tensor([self.batch_size, 3, self.image_size, self.image_size]),
            "pixel_mask": torch.ones(size, dtype=torch.long, device=torch_device),
        }
        return self.get_config(), inputs


@contextmanager
def same_points_every_call() -> Iterator[None]:
    """The loss draws its points at random; within this, each forward pass draws the same."""
    forward = YosoForUniversalSegmentation.forward

    def seeded_forward(self: YosoForUniversalSegmentation, *args: object, **kwargs: object) -> object:
        set_seed(0)
        return forward(self, *args, **kwargs)

    with patch.object(YosoForUniversalSegmentation, "forward", seeded_forward):
        yield


class YosoModelTest(ModelTesterMixin, unittest.TestCase):
    all_model_classes = (YosoModel, YosoForUniversalSegmentation)
    test_resize_embeddings = False  # there are no token embeddings
    test_can_init_all_missing_weights_before_2023 = True  # run it: our files have no year to be read from

    def setUp(self) -> None:
        self.model_tester = YosoModelTester(self)
        if "eager_matches_sdpa_inference" in self._testMethodName:
            # With one stage no hard mask (sigmoid > 0.5, which may flip by rounding) comes after an attention.
            self.model_tester.num_stages = self.model_tester.num_hidden_layers = 1
        self.config_tester = ConfigTester(self, config_class=YosoConfig, has_text_modality=False)

    def test_config(self) -> None:
        self.config_tester.run_common_tests()

    def _prepare_for_class(self, inputs_dict: dict, model_class: type, return_labels: bool = False) -> dict:
        inputs = copy.deepcopy(inputs_dict)
        if return_labels and model_class is YosoForUniversalSegmentation:
            size = self.model_tester.image_size
            masks = torch.zeros(2, size, size, device=torch_device)
            masks[0, : size // 2], masks[1, size // 2 :] = 1, 1
            inputs["mask_labels"] = [masks] * self.model_tester.batch_size
            inputs["class_labels"] = [torch.tensor([0, 3], device=torch_device)] * self.model_tester.batch_size
        return inputs

    def _set_subconfig_attributes(self, config: YosoConfig, attribute_name: str, value: object) -> None:
        """Without attentions of the backbone, which timm's do not give (the same exception as for `vision_config`)."""
        if attribute_name != "output_attentions":
            super()._set_subconfig_attributes(config, attribute_name, value)

    def test_model_outputs_equivalence(self) -> None:
        with same_points_every_call():
            super().test_model_outputs_equivalence()

    @unittest.skip("YOSO takes pixels and has no nn.Embedding for its input")
    def test_model_get_set_embeddings(self) -> None:
        pass
