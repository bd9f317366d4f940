"""The trained head's affinity fed back into the maps (WeCLIP's refinement; Zhang et al., CVPR 2024, arXiv 2406.11189).

Of the last attention maps those are kept whose summed difference to the head's affinity sigmoid(F^t F) is at most the
mean difference; they are averaged and multiplied with the head's affinity.
"""

from __future__ import annotations

from torch import Tensor


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
