"""One linear layer on the normalised tokens: the plainest head, and the check of the training loop."""

from __future__ import annotations

from torch import Tensor, nn

from clipseg_ws.heads.base import Head, HeadOutput


class LinearHead(Head):
    """Multinomial logistic regression of every patch; the embedding is the normalised tokens themselves."""

    def __init__(self, blocks: int, width: int, labels: int) -> None:
        super().__init__(blocks, width, labels)
        self.classify = nn.Conv2d(blocks * width, labels, 1)
        nn.init.zeros_(self.classify.weight)
        if self.classify.bias is not None:
            nn.init.zeros_(self.classify.bias)

    def forward(self, features: Tensor) -> HeadOutput:
        """[B, L, D, h, w] -> logits [B, 1+C, h, w], embedding [B, L*D, h, w]."""
        x = self.tokens(features)
        return HeadOutput(self.classify(x), x)
