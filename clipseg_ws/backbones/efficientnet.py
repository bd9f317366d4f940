"""EfficientNet-Lite 0 and 2 as timm's ``tf_efficientnet_lite0`` and ``2``, without what importing timm costs.

Names of weights and numbers are timm's (``tests/backbones/test_hybrid.py`` compares them); importing timm takes a
second and a half, most of it torchvision and torch's compiler.

Paper: Tan & Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019; the Lite
variants have no squeeze-and-excitation and ReLU6 for Swish, and pad as TensorFlow does.
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

# kernel, stride, expansion, channels, repeats of EfficientNet-B0's stages
_STAGES = (
    (3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3), (5, 1, 6, 112, 3), (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)  # fmt: skip
_SCALES = {"tf_efficientnet_lite0": (1.0, 1.0), "tf_efficientnet_lite2": (1.1, 1.2)}  # of channels, of repeats
_FIRST, _LAST = 32, 1280  # channels of the first and the last convolution, never scaled


class _Same(nn.Conv2d):
    """A convolution without bias that pads as TensorFlow's "SAME": what is odd goes to the right and below."""

    def __init__(self, inside: int, outside: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        padding = (kernel - 1) // 2 if stride == 1 else 0
        super().__init__(inside, outside, kernel, stride, padding, groups=groups, bias=False)

    def reset_parameters(self) -> None:
        """Normal numbers by the size of the output, as the paper's code draws them and timm's."""
        fan = self.kernel_size[0] * self.kernel_size[1] * self.out_channels // self.groups
        nn.init.normal_(self.weight, 0.0, math.sqrt(2.0 / fan))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', ceil(H / stride), ceil(W / stride)]."""
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        if stride > 1:
            down, right = (max((math.ceil(n / stride) - 1) * stride + kernel - n, 0) for n in x.shape[-2:])
            x = F.pad(x, (right // 2, right - right // 2, down // 2, down - down // 2))
        return super().forward(x)


class _Norm(nn.BatchNorm2d):
    """Batch norm and ReLU6, in one module as in timm."""

    def __init__(self, channels: int, active: bool = True) -> None:
        super().__init__(channels, eps=1e-3)
        self.active = active

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> the same."""
        x = super().forward(x)
        return F.relu6(x) if self.active else x


class _Separable(nn.Module):
    """Depthwise, then pointwise."""

    def __init__(self, inside: int, outside: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv_dw, self.bn1 = _Same(inside, inside, kernel, stride, inside), _Norm(inside)
        self.conv_pw, self.bn2 = _Same(inside, outside, 1), _Norm(outside, active=False)
        self.has_skip = stride == 1 and inside == outside

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', H', W']."""
        out: Tensor = self.bn2(self.conv_pw(self.bn1(self.conv_dw(x))))
        return out + x if self.has_skip else out


class _Inverted(nn.Module):
    """Pointwise to more channels, depthwise, pointwise back."""

    def __init__(self, inside: int, outside: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        middle = _round(inside * expansion)
        self.conv_pw, self.bn1 = _Same(inside, middle, 1), _Norm(middle)
        self.conv_dw, self.bn2 = _Same(middle, middle, kernel, stride, middle), _Norm(middle)
        self.conv_pwl, self.bn3 = _Same(middle, outside, 1), _Norm(outside, active=False)
        self.has_skip = stride == 1 and inside == outside

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', H', W']."""
        out: Tensor = self.bn3(self.conv_pwl(self.bn2(self.conv_dw(self.bn1(self.conv_pw(x))))))
        return out + x if self.has_skip else out


class EfficientNetLite(nn.Module):
    """The network without its head.

    Args:
        name: "tf_efficientnet_lite0" or "tf_efficientnet_lite2".

    Example:
        >>> import torch
        >>> EfficientNetLite("tf_efficientnet_lite0")(torch.zeros(1, 3, 64, 96)).shape
        torch.Size([1, 1280, 2, 3])
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        wider, deeper = _SCALES[name]
        self.conv_stem, self.bn1 = _Same(3, _FIRST, 3, 2), _Norm(_FIRST)
        inside, stages = _FIRST, []
        for number, (kernel, stride, expansion, channels, repeats) in enumerate(_STAGES):
            outside, blocks = _round(channels * wider), []
            count = repeats if number in (0, len(_STAGES) - 1) else math.ceil(repeats * deeper)
            for index in range(count):
                sizes = (inside, outside, kernel, stride if index == 0 else 1)
                blocks.append(_Separable(*sizes) if expansion == 1 else _Inverted(*sizes, expansion))
                inside = outside
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.Sequential(*stages)
        self.conv_head, self.bn2 = _Same(inside, _LAST, 1), _Norm(_LAST)

    def forward(self, pixels: Tensor) -> Tensor:
        """[B, 3, H, W] normalised -> [B, 1280, H/32, W/32], sides rounded up."""
        features: Tensor = self.bn2(self.conv_head(self.blocks(self.bn1(self.conv_stem(pixels)))))
        return features


def _round(channels: float) -> int:
    """To a multiple of 8, not more than a tenth below."""
    near = max(8, int(channels + 4) // 8 * 8)
    return near + 8 if near < 0.9 * channels else near
