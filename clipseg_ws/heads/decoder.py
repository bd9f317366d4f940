"""Several blocks of the frozen backbone fused by 1x1 projections, then convolutions or an MLP.

The shape follows WeCLIP's decoder (Zhang et al., CVPR 2024, arXiv 2406.11189): a projection for every block, their
concatenation fused, a few layers on top. The classifier may answer s x s pixels a patch (sub-pixel convolution, Shi et
al., CVPR 2016, arXiv 1609.05158), because a patch's token knows more than one label.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from clipseg_ws.heads.base import Head, HeadOutput


class Layer(nn.Module):
    """Residual k x k convolution with group normalisation: [B, F, h, w] -> the same."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, width)
        self.conv = nn.Conv2d(width, width, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        """x + conv(gelu(norm(x)))."""
        change: Tensor = self.conv(F.gelu(self.norm(x)))
        return x + change


class Trunk(nn.Module):
    """Projections of L blocks, fused, then ``depth`` layers: [B, L*D, h, w] -> [B, hidden, h, w]."""

    def __init__(self, blocks: int, width: int, hidden: int, depth: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.drop = nn.Dropout2d(dropout)  # whole channels: few pictures, many channels
        self.project = nn.Conv2d(blocks * width, blocks * hidden, 1, groups=blocks)  # every block on its own
        self.fuse = nn.Conv2d(blocks * hidden, hidden, 1)
        self.layers = nn.Sequential(*(Layer(hidden, kernel) for _ in range(depth)))
        self.norm = nn.GroupNorm(1, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised at the end."""
        fused = self.fuse(self.drop(F.gelu(self.project(self.drop(x)))))
        result: Tensor = self.norm(self.layers(fused))
        return result


class DecoderHead(Head):
    """Fused blocks, convolutions, classifier.

    Args:
        hidden: width F of the fused features. depth: layers. kernel: odd; 1 makes it an MLP on every patch.
        upsample: s, side of the block of pixels that a patch's features answer for.
        dropout: share of the channels dropped in training.
    """

    def __init__(
        self, blocks: int, width: int, labels: int, *, hidden: int = 256, depth: int = 2, kernel: int = 3,
        upsample: int = 4, dropout: float = 0.2,
    ) -> None:  # fmt: skip
        super().__init__(blocks, width, labels)
        if hidden < 1 or depth < 0 or kernel < 1 or kernel % 2 == 0 or upsample < 1 or not 0 <= dropout < 1:
            raise ValueError(
                f"hidden={hidden}, depth={depth}, kernel={kernel}, upsample={upsample}, dropout={dropout}; whole "
                "numbers of at least 1 (depth 0), kernel odd, and a share in [0, 1) are needed, e.g. hidden=256, "
                "depth=2, kernel=3, upsample=4, dropout=0.2"
            )
        self.upsample = upsample
        self.trunk = Trunk(blocks, width, hidden, depth, kernel, dropout)
        self.classify = nn.Conv2d(hidden, labels * upsample**2, 1)

    def forward(self, features: Tensor) -> HeadOutput:
        """[B, L, D, h, w] -> logits [B, 1+C, s*h, s*w], embedding [B, hidden, h, w]."""
        x = self.trunk(self.tokens(features))
        return HeadOutput(F.pixel_shuffle(self.classify(x), self.upsample), x)


class MlpHead(DecoderHead):
    """The decoder with 1x1 kernels: an MLP on every patch."""

    def __init__(
        self, blocks: int, width: int, labels: int, *, hidden: int = 256, depth: int = 2, upsample: int = 4,
        dropout: float = 0.2,
    ) -> None:  # fmt: skip
        super().__init__(
            blocks, width, labels, hidden=hidden, depth=depth, kernel=1, upsample=upsample, dropout=dropout
        )
