"""softmax-GradCAM (CLIP-ES, Lin et al., CVPR 2023, arXiv 2212.09506)."""

from __future__ import annotations

import torch
from torch import Tensor

from clipseg_ws.activations.gradient import mean_pooled_gradient
from clipseg_ws.activations.last_block import LastBlock, forward_last_block, normalize, pool_embedding
from clipseg_ws.backbones.protocol import Backbone
from clipseg_ws.structures import Tokens

POOLS = ("patch", "cls")


def softmax_gradcam(
    backbone: Backbone,
    tokens: Tokens,
    text: Tensor,
    targets: Tensor,
    *,
    logit_scale: float | None = None,
    pool: str = "patch",
    competitors: Tensor | None = None,
) -> Tensor:
    """Class activation maps of the softmax probability over all competing texts.

    Args:
        tokens: of B images, from ``backbone.encode``.
        text: [T, E] unit vectors.
        targets: [B, K] int64 rows of ``text``; -1 pads (its map is zero).
        logit_scale: factor of the cosine before the softmax; the model's own by default.
        pool: "patch", mean of the patch tokens as in the paper, or "cls". Towers without a trained class token pool
            as they were trained, by mean or by an attention head, in both.
        competitors: [B, T] bool, the rows that take part in image b's softmax (a target always does); all by default.

    Returns:
        [B, K, h, w] float32 in [0, 1], every map with min 0 and max 1 (all zero where no patch supports the class).

    Raises:
        ValueError: an unknown pool, or targets that are no rows of ``text``.
    """
    _check_rows(text, targets)
    return gradcam_and_probabilities(
        backbone, tokens, text, targets, logit_scale=logit_scale, pool=pool, competitors=competitors
    )[0]


@torch.no_grad()
def gradcam_and_probabilities(
    backbone: Backbone,
    tokens: Tokens,
    text: Tensor,
    targets: Tensor,
    *,
    logit_scale: float | None = None,
    pool: str = "patch",
    competitors: Tensor | None = None,
    block: LastBlock | None = None,
) -> tuple[Tensor, Tensor]:
    """``softmax_gradcam`` and the image's probabilities [B, T] float32 it was taken from (0 for non-competitors).

    ``block`` is the last block's forward pass where it was run before. That the targets are rows of ``text`` is not
    checked here: the host would wait for them.
    """
    _check(targets, pool, tokens.last_input.shape[0])
    scale = backbone.logit_scale if logit_scale is None else logit_scale
    block = forward_last_block(backbone, tokens.last_input, tokens.last, tokens.grid) if block is None else block
    feature = pool_embedding(backbone, block.out, pool)  # [B, E]
    logits = scale * normalize(feature) @ text.float().t()
    if competitors is not None:
        logits = logits.masked_fill(~_with_targets(competitors, targets), float("-inf"))
    probs = logits.softmax(-1)
    if not targets.shape[1]:
        return probs.new_zeros(len(probs), 0, *tokens.grid), probs
    signed = _signed_maps(backbone, block, feature, probs, text.float(), targets, scale, pool)
    maps = min_max(min_max(signed.clamp_min(0)))  # twice, as the reference does: it moves the maximum by 1e-7
    maps = maps * (targets >= 0)[..., None]
    return torch.unflatten(maps, -1, tokens.grid), probs  # [B, K, N] -> [B, K, h, w]


def _signed_maps(
    backbone: Backbone,
    block: LastBlock,
    feature: Tensor,
    probs: Tensor,
    text: Tensor,
    targets: Tensor,
    scale: float,
    pool: str,
) -> Tensor:
    """Weighted sums of the activations [B, K, N] float32 before the ReLU."""
    d_feature = probability_gradient(feature, probs, text, targets, scale)  # [K, B, E]
    # probabilities near 0 or 1 have tiny gradients: unit size through half-precision products, scaled back after
    size = d_feature.abs().amax(-1, keepdim=True).clamp_min(1e-30)
    weights = mean_pooled_gradient(backbone, block, d_feature / size, pool).float() * size  # [K, B, D]
    return torch.einsum("kbd,bnd->bkn", weights, block.attention.a[:, 1:].float())


def probability_gradient(feature: Tensor, probs: Tensor, text: Tensor, targets: Tensor, scale: float) -> Tensor:
    """Gradient of the targets' softmax probabilities with respect to the pooled embedding.

    Args:
        feature: [B, E] not normalised. probs: [B, T]. text: [T, E]. targets: [B, K] (-1 pads). scale: logit scale.

    Returns:
        [K, B, E]; zero for padding.
    """
    picked = targets.clamp_min(0)
    p = probs.gather(1, picked) * (targets >= 0)  # [B, K]
    mean_text = probs @ text  # [B, E]
    d_unit = scale * p[..., None] * (text[picked] - mean_text[:, None])  # d p_c / d unit vector, [B, K, E]
    unit = normalize(feature)[:, None]
    d_feature: Tensor = (d_unit - (d_unit * unit).sum(-1, keepdim=True) * unit) / feature.norm(dim=-1)[:, None, None]
    return d_feature.transpose(0, 1)


def min_max(maps: Tensor, eps: float = 1e-7) -> Tensor:
    """Subtract the minimum, divide by the maximum plus eps, over the last axis."""
    maps = maps - maps.amin(-1, keepdim=True)
    return maps / (maps.amax(-1, keepdim=True) + eps)


def _with_targets(competitors: Tensor, targets: Tensor) -> Tensor:
    """[B, T] bool: the competitors and every image's own targets."""
    own = competitors.new_zeros(competitors.shape[0], competitors.shape[1] + 1)
    return competitors | own.scatter(1, targets + 1, True)[:, 1:]  # column 0 collects the padding


def _check(targets: Tensor, pool: str, batch: int) -> None:
    if pool not in POOLS:
        raise ValueError(f"pool={pool!r} is unknown; choose one of {', '.join(POOLS)}, for example 'patch'")
    if targets.ndim != 2 or targets.shape[0] != batch:
        raise ValueError(f"targets have shape {tuple(targets.shape)}; [B, K] with B={batch} is needed, -1 pads")


def _check_rows(text: Tensor, targets: Tensor) -> None:
    if targets.numel() and (int(targets.max()) >= text.shape[0] or int(targets.min()) < -1):
        raise ValueError(
            f"targets run from {int(targets.min())} to {int(targets.max())}; rows of text are 0 to "
            f"{text.shape[0] - 1}, -1 pads, for example [[0, 2], [1, -1]]"
        )
