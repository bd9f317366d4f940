"""What all heads share: shapes in and out, the normalisation of the tokens they read, and how one is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipseg_ws.heads import HEADS
from clipseg_ws.registry import Spec, checked_spec


@dataclass(frozen=True, eq=False)
class HeadOutput:
    """What a head answers for B pictures.

    Attributes:
        logits: [B, 1+C, s*h, s*w], background first; s is the head's own upsampling.
        embedding: [B, F, h, w], the features in front of the classifier, for contrast and affinity.
        coarse: [B, 1+C, h, w] logits of an auxiliary classifier, None where there is none.
    """

    logits: Tensor
    embedding: Tensor
    coarse: Tensor | None = None


class Head(nn.Module):
    """A module from tokens [B, L, D, h, w] to ``HeadOutput``.

    Args:
        blocks: L. width: D. labels: 1 + C.

    Raises:
        ValueError: fewer than one block or two labels.
    """

    def __init__(self, blocks: int, width: int, labels: int) -> None:
        super().__init__()
        if blocks < 1 or width < 1 or labels < 2:
            raise ValueError(
                f"blocks={blocks}, width={width}, labels={labels}; at least 1 block, width 1 and 2 labels (background "
                "and one class) are needed, for example blocks=2, width=768, labels=21"
            )
        self.blocks, self.width, self.labels = blocks, width, labels

    def tokens(self, features: Tensor) -> Tensor:
        """[B, L, D, h, w] -> [B, L*D, h, w], every block's token brought to mean 0 and variance 1.

        Raises ValueError for another number of blocks or another width.
        """
        if features.ndim != 5 or tuple(features.shape[1:3]) != (self.blocks, self.width):
            raise ValueError(
                f"features have shape {tuple(features.shape)}; this head reads [B, {self.blocks}, {self.width}, h, w]"
            )
        return normalise_tokens(features).flatten(1, 2)


def make_head(kind: str, blocks: int, width: int, labels: int, *, seed: int = 0, **options: Any) -> Head:
    """A new head of ``kind`` with weights drawn from ``seed``; torch's global generator stays as it was.

    Args:
        kind: a key of ``HEADS``. blocks: L backbone blocks it reads. width: their token width D.
        labels: 1 + C, background included. options: of the head, see its entry.

    Raises:
        ValueError: an unknown kind, or an option that it does not have or of another type.
    """
    spec = checked_spec(Spec(kind, tuple(options.items())), HEADS, "head")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head: Head = HEADS[kind].load()(blocks, width, labels, **dict(spec.parameters))
    return head


def normalise_tokens(features: Tensor) -> Tensor:
    """Layer normalisation without parameters over D, in at least float32: [B, L, D, h, w] -> the same shape."""
    x = features.float() if features.dtype.itemsize < 4 else features
    return F.layer_norm(x.movedim(2, -1), (features.shape[2],)).movedim(-1, 2)
