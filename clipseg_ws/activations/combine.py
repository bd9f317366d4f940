"""Two opinions about the same pixels as one: a calibrated sum of log-probabilities (product of experts, Hinton, Neural
Computation 2002), and the temperature that calibrates each (Guo et al., ICML 2017, arXiv 1706.04599).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

TEMPERATURES = tuple(2 ** (i / 2) for i in range(-6, 11))  # candidate factors of the logits: 1/8 ... 32
_TINY = 1e-6


def combine(
    first: Tensor, second: Tensor, knows_first: Sequence[int], knows_second: Sequence[int], count: int, *,
    weight: float = 0.5,
) -> Tensor:  # fmt: skip
    """Weighted geometric mean of two distributions, renormalised.

    Args:
        first: [B, 1+K1, h, w], background first, rows adding up to 1; channel 1+i is class ``knows_first[i]``.
        second: [B, 1+K2, h, w], likewise. count: number of classes C; every class is known to one of the two.
        weight: of the second, in [0, 1].

    Returns:
        [B, 1+C, h, w], rows adding up to 1. Where a class is unknown it is part of the background: its share is split
        as the other one splits it, so that neither opinion speaks against what it cannot know.

    Raises:
        ValueError: a class that neither knows, or a weight outside [0, 1].
    """
    nobody = sorted(set(range(count)) - set(knows_first) - set(knows_second))
    if nobody or not 0 <= weight <= 1:
        raise ValueError(f"weight={weight} must be in [0, 1]; classes {nobody} have neither a name nor an example")
    a, b = _spread(first, knows_first, count), _spread(second, knows_second, count)
    a, b = _lift(a, b, knows_first), _lift(b, a, knows_second)
    return ((1 - weight) * a.clamp_min(_TINY).log() + weight * b.clamp_min(_TINY).log()).softmax(1)


def fit_temperature(logits: Tensor, own: Tensor, shares: Tensor) -> float:
    """The factor of the logits, among ``TEMPERATURES``, that tells a class best from everything else.

    Cross-entropy of softmax(factor x logits)[own] as the probability that a cell is the class; inside and outside count
    alike, however many cells they have. What else is in the picture need not be known.

    Args:
        logits: [M, C] of cells. own: [M] the column asked for. shares: [M] in [0, 1], how far the cell is that class.

    Returns:
        1.0 where all cells are inside or all outside: nothing can be told then.
    """
    inside, outside = shares / shares.sum().clamp_min(_TINY), (1 - shares) / (1 - shares).sum().clamp_min(_TINY)
    if float(shares.sum()) <= _TINY or float((1 - shares).sum()) <= _TINY:
        return 1.0

    def loss(factor: float) -> float:
        p = (factor * logits.float()).softmax(1).gather(1, own[:, None])[:, 0].clamp(_TINY, 1 - _TINY)
        return float(-(inside * p.log() + outside * (1 - p).log()).sum())

    return min(TEMPERATURES, key=loss)


def _spread(probabilities: Tensor, knows: Sequence[int], count: int) -> Tensor:
    """Channels at the places of their classes: [B, 1+K, h, w] -> [B, 1+C, h, w], 0 for an unknown class."""
    out = probabilities.new_zeros(probabilities.shape[0], count + 1, *probabilities.shape[2:])
    out[:, [0, *(k + 1 for k in knows)]] = probabilities
    return out


def _lift(mine: Tensor, other: Tensor, knows: Sequence[int]) -> Tensor:
    """Split my background among background and the classes I do not know, in the other's proportions."""
    unknown = [c for c in range(mine.shape[1]) if c == 0 or c - 1 not in set(knows)]
    if len(unknown) == 1:
        return mine
    share = other[:, unknown].clamp_min(_TINY)
    out = mine.clone()
    out[:, unknown] = mine[:, :1] * share / share.sum(1, keepdim=True)
    return out
