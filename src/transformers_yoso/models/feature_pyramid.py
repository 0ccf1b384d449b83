"""Top-down feature pyramid with deformable upsampling (paper section 3.2)."""

from itertools import pairwise

from torch import Tensor, nn

from .modulated_deformable_conv import ModulatedDeformableConv2d


class DeformableUpsampling(nn.Module):
    """Doubles a map's size: modulated deformable conv -> BN -> ReLU -> transposed conv 4x4 stride 2 -> BN -> ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.deformable_conv = ModulatedDeformableConv2d(in_channels, out_channels)
        self.deformable_norm = nn.BatchNorm2d(out_channels)
        self.upsampling_conv = nn.ConvTranspose2d(
            out_channels, out_channels, kernel_size=4, stride=2, padding=1, bias=False
        )
        self.upsampling_norm = nn.BatchNorm2d(out_channels)
        self.activation = nn.ReLU()

    def forward(self, features: Tensor) -> Tensor:
        """`(B, C_in, H, W)` -> `(B, C_out, 2H, 2W)`."""
        features = self.activation(self.deformable_norm(self.deformable_conv(features)))
        return self.activation(self.upsampling_norm(self.upsampling_conv(features)))


class DeformableFeaturePyramid(nn.Module):
    """P5 = lateral(C5) and P_i = lateral(C_i) + upsampling(P_{i+1}) for i = 4, 3, 2.

    Args:
        in_channels (`list[int]`): Channels of C2..C5.
        out_channels (`list[int]`): Channels of P2..P5.
    """

    def __init__(self, in_channels: list[int], out_channels: list[int]) -> None:
        super().__init__()
        self.lateral_convs = nn.ModuleList(
            nn.Conv2d(c_in, c_out, kernel_size=1) for c_in, c_out in zip(in_channels, out_channels, strict=True)
        )
        self.upsamplings = nn.ModuleList(DeformableUpsampling(coarse, fine) for fine, coarse in pairwise(out_channels))

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """C2..C5 at strides 4, 8, 16, 32 -> P2..P5 at the same sizes."""
        laterals = [conv(feature) for conv, feature in zip(self.lateral_convs, features, strict=True)]
        pyramid = [laterals[-1]]
        for lateral, upsampling in zip(laterals[-2::-1], reversed(self.upsamplings), strict=True):
            pyramid.insert(0, lateral + upsampling(pyramid[0]))
        return pyramid
