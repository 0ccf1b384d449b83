"""Rewritten graphs give what the module gives, whoever else reads the maps that a convolution adds and writes over."""

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

from transformers_yoso.models.graph_fusion import inference_graph
from transformers_yoso.models.inference_convolution import InferenceConv2d


class Residual(nn.Module):
    """Three convolutions and a sum; subclasses say who reads the shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.branch, self.out = (nn.Conv2d(channels, 16, 3, padding=1) for channels in (3, 16, 16))
        self.relu = nn.ReLU(inplace=True)


class ReadForTheLastTime(Residual):
    overwrites = True

    def forward(self, image: Tensor) -> Tensor:
        shortcut = self.stem(image)
        return self.relu(shortcut + self.out(self.branch(shortcut)))


class ReadLater(Residual):
    overwrites = False

    def forward(self, image: Tensor) -> Tensor:
        shortcut = self.stem(image)
        total = self.branch(shortcut) + shortcut
        return total * self.out(shortcut)


class GivenOut(Residual):
    overwrites = False

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        shortcut = self.stem(image)
        return shortcut, shortcut + self.out(self.branch(shortcut))


class ReadThroughAView(Residual):
    overwrites = False

    def forward(self, image: Tensor) -> Tensor:
        shortcut = self.stem(image)
        flat = shortcut.flatten(2)
        total = shortcut + self.out(self.branch(shortcut))
        return total.flatten(2) * flat


class AddedToItself(Residual):
    overwrites = False

    def forward(self, image: Tensor) -> Tensor:
        features = self.stem(image)
        return features + self.out(features)


class PhotoAdded(Residual):
    overwrites = False

    def forward(self, image: Tensor) -> Tensor:
        image = image.repeat(1, 6, 1, 1)[:, :16]
        return image + self.out(self.branch(image))


@pytest.mark.parametrize(
    "kind", [ReadForTheLastTime, ReadLater, GivenOut, ReadThroughAView, AddedToItself, PhotoAdded]
)
@pytest.mark.parametrize("channels_last", [True, False])
def test_sums_are_written_over_only_where_nobody_reads_them_again(kind: type[Residual], channels_last: bool) -> None:
    torch.manual_seed(0)
    module, image = kind().eval(), torch.randn(2, 3, 24, 40)
    before = image.clone()
    graph = inference_graph(module, batch_norm=True, channels_last=channels_last, onednn=True)
    with torch.no_grad():
        for _ in range(2):
            torch.testing.assert_close(graph(image), module(image), rtol=1e-5, atol=1e-5)
    assert torch.equal(image, before)
    assert any("overwrite" in node.kwargs for node in graph.graph.nodes) == kind.overwrites


@pytest.mark.parametrize("convolution", [nn.Conv2d(8, 24, 3, 2, 1), nn.ConvTranspose2d(8, 24, 4, 2, 1)])
def test_weights_fit_all_sizes_and_copies(convolution: nn.Module) -> None:
    """Whatever the layout was chosen for: a larger or smaller map, a copy, a pickled copy."""
    torch.manual_seed(0)
    first = InferenceConv2d(convolution.eval())
    for layer in (first, copy.deepcopy(first), pickle.loads(pickle.dumps(first))):
        for size in ((1, 8, 16, 16), (3, 8, 40, 64), (1, 8, 5, 7)):
            features = torch.randn(size)
            with torch.no_grad():
                torch.testing.assert_close(layer(features), convolution(features), rtol=1e-5, atol=1e-5)
