"""Masks at sampled points instead of on full grids (PointRend, arXiv 1912.08193).

Points are (x, y) in [0, 1] x [0, 1] over the padded input image. Sampling is bilinear with `align_corners=False`
and zeros outside, as `torch.nn.functional.grid_sample` has it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .modulated_deformable_conv import bilinear_corners


def at_least_float32(values: Tensor) -> Tensor:
    """Half precision -> float32; float32 and float64 as they are."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def sample_mask_logits(mask_logits: Tensor, points: Tensor) -> Tensor:
    """Mask logits `(M, h, w)` at points `(M, P, 2)`, or at points `(P, 2)` shared by all masks -> `(M, P)`."""
    grid = (points - 0.5).mul_(2)
    if points.dim() == 2:
        return F.grid_sample(mask_logits[None], grid[None, :, None], align_corners=False)[0, :, :, 0]
    return F.grid_sample(mask_logits[:, None], grid[:, :, None], align_corners=False)[:, 0, :, 0]


def sample_target_masks(target: Tensor, segments: Tensor, points: Tensor, canvas_size: tuple[int, int]) -> Tensor:
    """Target masks at points, read from the compact form: no float mask of the image's size is ever made.

    Args:
        target (`Tensor`): Binary masks `(n, H, W)` of any dtype (0/1 or 0/255), or an integer id map `(H, W)` with segment k as k
            and anything else as void. Outside of it, up to `canvas_size`, there is no mask.
        segments (`Tensor` of shape `(M,)`): The segments wanted.
        points (`Tensor` of shape `(M, P, 2)` or `(P, 2)`): Points of each segment, or shared ones.
        canvas_size (`tuple[int, int]`): Height and width of the padded input in pixels.

    Returns:
        `Tensor` of shape `(M, P)`, float32, in [0, 1].
    """
    height, width = target.shape[-2:]
    positions = points.flip(-1) * points.new_tensor(canvas_size) - 0.5
    indices, weights = bilinear_corners(positions, height, width)
    segments = segments.view(-1, 1, 1)
    if target.dim() == 2:
        hits = target.flatten()[indices] == segments
    else:
        hits = target.flatten()[indices + segments * (height * width)] > 0.5
    return (hits * weights).sum(-1)


def draw_points(
    counts: list[int], num_points: int, like: Tensor, generators: list[torch.Generator] | None = None
) -> Tensor:
    """Uniform points for the masks of several images.

    Args:
        counts (`list[int]`): Masks of each image, M in all.
        num_points (`int`): P, points a mask.
        like (`Tensor`): Gives device and dtype.
        generators (`list[torch.Generator]`, *optional*): One an image, so that its points do not depend on the other
            images of the batch. By default torch's global generator draws all in one call, as in the released code.

    Returns:
        `Tensor` of shape `(M, P, 2)`.
    """
    draw = {"device": like.device, "dtype": like.dtype}
    if generators is None:
        return torch.rand(sum(counts), num_points, 2, **draw)
    return torch.cat(
        [
            torch.rand(count, num_points, 2, generator=generator, **draw)
            for count, generator in zip(counts, generators, strict=True)
        ]
    )


def sample_uncertain_points(
    mask_logits: Tensor,
    num_points: int,
    oversample_ratio: float,
    importance_sample_ratio: float,
    counts: list[int] | None = None,
    generators: list[torch.Generator] | None = None,
) -> Tensor:
    """Points for the mask losses: the most uncertain of an oversampled uniform draw, and uniform ones.

    Args:
        mask_logits (`Tensor` of shape `(M, h, w)`): Predicted masks; a point is uncertain where |logit| is small.
        num_points (`int`): P.
        oversample_ratio (`float`): The draw has `int(P * oversample_ratio)` points.
        importance_sample_ratio (`float`): `int(P * importance_sample_ratio)` of the P points are uncertain ones.
        counts (`list[int]`, *optional*), generators (`list[torch.Generator]`, *optional*): See [`draw_points`].

    Returns:
        `Tensor` of shape `(M, P, 2)`.
    """
    counts = [mask_logits.shape[0]] if counts is None else counts
    num_uncertain = int(importance_sample_ratio * num_points)
    drawn = draw_points(counts, int(num_points * oversample_ratio), mask_logits, generators)
    chosen = []
    for logits, points in zip(mask_logits.split(counts), drawn.split(counts), strict=True):
        certainty = sample_mask_logits(logits, points).abs_()
        most_uncertain = certainty.topk(num_uncertain, dim=1, largest=False).indices
        chosen.append(points.gather(1, most_uncertain.unsqueeze(-1).expand(-1, -1, 2)))
    others = draw_points(counts, num_points - num_uncertain, mask_logits, generators)
    return torch.cat((torch.cat(chosen), others), dim=1)
