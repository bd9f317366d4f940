"""The trained head's affinity fed back into the maps (WeCLIP's refinement; Zhang et al., CVPR 2024, arXiv 2406.11189).

Of the last attention maps those are kept whose summed difference to the head's affinity sigmoid(F^t F) is at most the
mean difference; they are averaged and multiplied with the head's affinity.
"""

from __future__ import annotations

from torch import Tensor

from clipseg_ws.heads.course import Course
from clipseg_ws.heads.data import Retargeted
from clipseg_ws.heads.estimator import SegmentationHead


def head_affinity(embedding: Tensor) -> Tensor:
    """[B, F, h, w] -> sigmoid(F^t F) [B, N, N] float32."""
    flat = embedding.float().flatten(2)
    return (flat.transpose(1, 2) @ flat).sigmoid()


def keep_similar(attentions: Tensor, affinity: Tensor) -> Tensor:
    """bool [B, M]: which of the attentions [B, M, N, N] differ from ``affinity`` [B, N, N] at most as the mean does.

    Raises ValueError where the shapes do not fit.
    """
    if attentions.ndim != 4 or attentions.shape[2:] != affinity.shape[1:] or len(attentions) != len(affinity):
        raise ValueError(
            f"attentions are {tuple(attentions.shape)}, the affinity {tuple(affinity.shape)}; [B, M, N, N] and "
            "[B, N, N] are needed"
        )
    difference = (attentions.float() - affinity[:, None]).abs().sum((-2, -1))
    # rounding must not drop all of several equal ones
    return difference <= difference.mean(1, keepdim=True) * (1 + 1e-6)


def feed_back(attentions: Tensor, embedding: Tensor) -> Tensor:
    """The attention that ``class_aware_affinity`` should use.

    Args:
        attentions: [B, M, N, N] of the last M blocks, mean over heads. embedding: [B, F, h, w] of the head.

    Returns:
        [B, N, N] float32: mean of the kept attentions times the head's affinity.
    """
    affinity = head_affinity(embedding)
    kept = keep_similar(attentions, affinity).float()[:, :, None, None]
    return (attentions.float() * kept).sum(1) / kept.sum(1) * affinity


def fit_fed_back(course: Course, *, rounds: int = 2, blocks: int = 6) -> SegmentationHead:
    """Fit, then ``rounds - 1`` times make the masks again with the head and fit a new one on them.

    Args:
        course: with ``feed_back``. blocks: last blocks whose attention may be kept.

    Raises:
        ValueError: less than one round, or no ``feed_back``.
    """
    if rounds < 1 or course.feed_back is None:
        raise ValueError(f"rounds={rounds}; at least 1, and a way to make the masks again (feed_back), are needed")
    head = course.learn(course.head(), place="round-1")
    for number in range(2, rounds + 1):
        again = Retargeted(course.data, course.feed_back(head.module_, blocks), made=("fed back", number, blocks))
        head = course.learn(course.head(), again, place=f"round-{number}", check=False)
    return head
