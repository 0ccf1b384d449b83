"""`compile_for_inference`: buckets of sizes, equal results, clear refusals."""

import copy

import pytest
import torch
import torch.nn.functional as F

from tiny_yoso import tiny_model
from transformers_yoso.models.compilation import compile_for_inference


def assert_buckets_give_the_plain_outputs(tolerance: float) -> None:
    torch.manual_seed(0)
    model = tiny_model()
    plain = copy.deepcopy(model)
    compiled = compile_for_inference(model, sizes=[(64, 96), (64, 64)])
    for size, bucket in (((64, 96), (64, 96)), ((50, 60), (64, 64)), ((64, 65), (64, 96))):
        pixel_values = torch.randn(1, 3, *size)
        outputs = compiled(pixel_values)
        assert outputs.masks_queries_logits.shape == (1, 10, bucket[0] // 4, bucket[1] // 4)
        assert outputs.image_sizes.tolist() == [list(size)]
        padded = F.pad(pixel_values, (0, bucket[1] - size[1], 0, bucket[0] - size[0]))
        with torch.no_grad():
            expected = plain(padded).class_queries_logits
        torch.testing.assert_close(outputs.class_queries_logits, expected, rtol=tolerance, atol=tolerance)
    with pytest.raises(ValueError, match="holds images"):
        compiled(torch.zeros(1, 3, 96, 96))


def test_photos_are_padded_to_the_smallest_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    assert_buckets_give_the_plain_outputs(tolerance=1e-3)


@pytest.mark.slow
def test_compiled_buckets_give_the_plain_outputs() -> None:
    assert_buckets_give_the_plain_outputs(tolerance=1e-2)


@pytest.mark.parametrize("sizes", [[], [(64, 65)], [(0, 64)]])
def test_wrong_sizes_are_refused(sizes: list) -> None:
    with pytest.raises(ValueError, match="multiples of 32"):
        compile_for_inference(tiny_model(), sizes)
