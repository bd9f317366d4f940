"""Discriminative region suppression (DRS, Kim, Han and Kim, AAAI 2021, arXiv 2103.07246).

A classifier is content with a thing's most telling part, so its map peaks there. The paper's controller without
parameters caps an activation at a fixed share of its own maximum: the peak is flattened, what is next to it catches up.
"""

from __future__ import annotations

from torch import Tensor


def suppress_discriminative(maps: Tensor, suppression: float) -> Tensor:
    """Cap every map at a share of its maximum and stretch it to its old maximum.

    Args:
        maps: [B, K, h, w] non-negative; an all-zero map stays zero.
        suppression: share of the maximum that is cut off, in [0, 1); the paper's 0.55 as cap is 0.45 here.

    Returns:
        [B, K, h, w], dtype of ``maps``; no value is lowered, the maximum stays what it was.

    Raises:
        ValueError: suppression outside [0, 1).
    """
    if not 0 <= suppression < 1:
        raise ValueError(f"suppression={suppression}; a share in [0, 1) is needed, for example 0.45")
    top = maps.amax((-2, -1), keepdim=True)
    return (maps / (1 - suppression)).minimum(top)
