"""Two opinions about the same classes as one map: a weighted sum of log-probabilities (product of experts, Hinton,
Neural Computation 2002).
"""

from __future__ import annotations

import torch
from torch import Tensor

_TINY = 1e-6


def combine(
    first: Tensor, second: Tensor, knows_first: Tensor, knows_second: Tensor, *, weight: float | Tensor = 0.5
) -> Tensor:
    """Weighted geometric mean of two sets of maps, class by class.

    Args:
        first, second: [B, K, h, w] in [0, 1], the same classes in the same places.
        knows_first, knows_second: [B, K] bool, whether each has an opinion on a class. Where only one has, its map is
            taken as it is; where none has, the result is 0.
        weight: of the second, in [0, 1], or [B, K] of each map; the calibration of one opinion against the other.

    Returns:
        [B, K, h, w] float32 in [0, 1].

    Raises:
        ValueError: a weight outside [0, 1], or shapes that differ.
    """
    share = torch.as_tensor(weight, dtype=torch.float32, device=first.device)
    share = share[:, :, None, None] if share.ndim else share
    if (not isinstance(weight, Tensor) and not 0 <= weight <= 1) or first.shape != second.shape:
        raise ValueError(
            f"weight={weight}, maps {tuple(first.shape)} and {tuple(second.shape)}; a weight in [0, 1] and equal "
            "shapes are needed, for example 0.5"
        )
    a, b = first.float(), second.float()
    both = ((1 - share) * a.clamp_min(_TINY).log() + share * b.clamp_min(_TINY).log()).exp()
    one = torch.where(knows_first[:, :, None, None], a, b * knows_second[:, :, None, None])
    return torch.where((knows_first & knows_second)[:, :, None, None], both, one)
