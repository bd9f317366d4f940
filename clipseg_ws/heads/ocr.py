"""Object-contextual head (OCR; Yuan et al., ECCV 2020, arXiv 1909.11065) on fused backbone blocks.

A coarse classifier says softly which patches belong to which label; their features, weighted so, give one vector a
label; every patch attends to these vectors and is classified together with what it fetched.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipseg_ws.heads.base import HeadOutput
from clipseg_ws.heads.decoder import DecoderHead


class OcrHead(DecoderHead):
    """``DecoderHead`` whose patches are classified with their object context; ``coarse`` is trained beside."""

    def __init__(
        self, blocks: int, width: int, labels: int, *, hidden: int = 256, depth: int = 2, kernel: int = 3,
        upsample: int = 4, dropout: float = 0.2,
    ) -> None:  # fmt: skip
        super().__init__(
            blocks, width, labels, hidden=hidden, depth=depth, kernel=kernel, upsample=upsample, dropout=dropout
        )
        self.coarse = nn.Conv2d(hidden, labels, 1)
        self.query = nn.Conv2d(hidden, hidden, 1)
        self.key, self.value = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)
        self.join = nn.Conv2d(2 * hidden, hidden, 1)

    def forward(self, features: Tensor) -> HeadOutput:
        """[B, L, D, h, w] -> logits [B, 1+C, s*h, s*w], embedding [B, hidden, h, w], coarse [B, 1+C, h, w]."""
        x = self.trunk(self.tokens(features))
        coarse = self.coarse(x)
        regions = pool_regions(x, coarse)
        context = attend(self.query(x), self.key(regions), self.value(regions))
        x = F.gelu(self.join(torch.cat([x, context], 1)))
        return HeadOutput(F.pixel_shuffle(self.classify(x), self.upsample), x, coarse)


def pool_regions(x: Tensor, coarse: Tensor) -> Tensor:
    """Features [B, F, h, w] and logits [B, K, h, w] -> [B, K, F]: mean weighted by a softmax over the patches."""
    weights = coarse.flatten(2).float().softmax(-1).to(x.dtype)  # [B, K, N]
    return weights @ x.flatten(2).transpose(1, 2)


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Scaled dot-product attention from patches [B, F, h, w] to regions [B, K, F] -> [B, F, h, w]."""
    q = query.flatten(2).transpose(1, 2)  # [B, F, h, w] -> [B, N, F]
    found = F.scaled_dot_product_attention(q, key, value)
    return torch.unflatten(found.transpose(1, 2), -1, query.shape[-2:])
