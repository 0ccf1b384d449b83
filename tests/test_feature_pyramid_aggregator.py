"""Feature pyramid aggregator: convolution-first aggregation and coordinate features."""

import torch
import torch.nn.functional as F

from transformers_yoso.models.feature_aggregation import ConvolutionFirstAggregation
from transformers_yoso.models.feature_pyramid_aggregator import FeaturePyramidAggregator, append_coordinate_features

CHANNELS = [8, 12, 16, 20]


def random_levels(height: int, width: int) -> list[torch.Tensor]:
    """Four levels in float64; the first of `(height, width)`, each further one half of it."""
    return [
        torch.randn(2, channels, height >> level, width >> level, dtype=torch.float64)
        for level, channels in enumerate(CHANNELS)
    ]


def test_convolution_first_equals_interpolation_first() -> None:
    torch.manual_seed(0)
    aggregation = ConvolutionFirstAggregation(CHANNELS, 6).double()
    torch.nn.init.normal_(aggregation.bias)
    pyramid = random_levels(16, 24)
    upsampled = [F.interpolate(level, size=(16, 24), mode="bilinear", align_corners=False) for level in pyramid[::-1]]
    weight = torch.cat([conv.weight for conv in list(aggregation.level_convs)[::-1]], dim=1)
    expected = F.conv2d(torch.cat(upsampled, dim=1), weight, aggregation.bias.flatten())
    torch.testing.assert_close(aggregation(pyramid), expected, rtol=1e-12, atol=1e-12)


def test_coordinate_features_run_from_end_to_end() -> None:
    features = torch.randn(2, 3, 5, 9)
    appended = append_coordinate_features(features)
    assert appended.shape == (2, 5, 5, 9)
    assert torch.equal(appended[:, :3], features)
    x, y = appended[1, 3], appended[1, 4]
    assert torch.equal(x, x[:1].expand(5, 9))
    assert torch.equal(y, y[:, :1].expand(5, 9))
    torch.testing.assert_close(x[0], torch.tensor([-1, -0.75, -0.5, -0.25, 0, 0.25, 0.5, 0.75, 1]))
    torch.testing.assert_close(y[:, 0], torch.tensor([-1, -0.5, 0, 0.5, 1]))
    assert append_coordinate_features(features.bfloat16()).dtype == torch.bfloat16


def test_feature_map_is_linear_in_the_pyramid() -> None:
    """No non-linearity from P2..P5 to S (paper section 3.2)."""
    torch.manual_seed(0)
    neck = FeaturePyramidAggregator(CHANNELS, CHANNELS, aggregation_dim=6, hidden_dim=10).double().eval()
    neck.pyramid = torch.nn.Identity()
    first, second = random_levels(16, 24), random_levels(16, 24)
    middle = [(one + other) / 2 for one, other in zip(first, second, strict=True)]
    torch.testing.assert_close(neck(middle), (neck(first) + neck(second)) / 2)


def test_levels_are_added_top_down() -> None:
    """P5 reaches every level, P2 only itself."""
    torch.manual_seed(0)
    pyramid = FeaturePyramidAggregator(CHANNELS, [4, 6, 8, 10], 6, 10).double().eval().pyramid
    features = random_levels(16, 24)
    before = pyramid(features)
    assert [tuple(level.shape) for level in before] == [(2, 4, 16, 24), (2, 6, 8, 12), (2, 8, 4, 6), (2, 10, 2, 3)]
    for changed in range(4):
        after = pyramid([level + (index == changed) for index, level in enumerate(features)])
        moved = [not torch.equal(one, other) for one, other in zip(before, after, strict=True)]
        assert moved == [index <= changed for index in range(4)]
