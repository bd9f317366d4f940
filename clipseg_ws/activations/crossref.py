"""Cross-reference of support and query: a channel counts as far as both activate it (CRCNet, Liu et al., CVPR 2020,
arXiv 2003.10658). The network's learned gates are replaced by what they compute from pooled features.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def channel_gates(prototypes: Tensor, query: Tensor) -> Tensor:
    """How far support and query activate each channel: the product of two sigmoids of standardised pooled features.

    Args:
        prototypes: [K, D] or [B, K, D] foreground vectors of the classes. query: [B, D, h, w].

    Returns:
        [B, K, D] float32 in (0, 1). Each vector is standardised over its channels, so a constant added to all channels
        or a common factor does not matter.
    """
    pooled = query.float().flatten(2).mean(2)[:, None]  # [B, 1, D]
    shown = prototypes.float() if prototypes.ndim == 3 else prototypes.float()[None]
    return torch.sigmoid(_standardised(shown)) * torch.sigmoid(_standardised(pooled))


def gated_cosine(features: Tensor, prototypes: Tensor, gates: Tensor) -> Tensor:
    """Cosine of gated features with gated prototypes, every class with its own gates.

    Args:
        features: [B, D, h, w]. prototypes: [K, D] or [B, K, D]. gates: [B, K, D] non-negative.

    Returns:
        [B, K, h, w] float32 in [-1, 1].
    """
    cells = features.float().flatten(2)  # [B, D, N]
    shown = prototypes.float() if prototypes.ndim == 3 else prototypes.float()[None]
    squared = gates**2
    dots = (squared * shown) @ cells  # sum_d g_d^2 p_d f_d, [B, K, N]
    lengths = (squared @ cells**2).sqrt() * (gates * shown).norm(dim=-1, keepdim=True)
    return torch.unflatten(dots / lengths.clamp_min(1e-8), 2, features.shape[2:])


def _standardised(vectors: Tensor) -> Tensor:
    """Mean 0 and variance 1 over the last axis."""
    return F.layer_norm(vectors, vectors.shape[-1:])
