"""From tokens to class maps on the patch grid: presence, activation, affinity, for a batch with its own class lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from clipseg_ws.activations.dense import dense_embeddings
from clipseg_ws.activations.gradcam import gradcam_and_probabilities, min_max
from clipseg_ws.activations.last_block import LastBlock, forward_last_block, normalize, pool_embedding
from clipseg_ws.activations.presence import presence
from clipseg_ws.backbones.openclip import OpenClipBackbone
from clipseg_ws.config import Config
from clipseg_ws.constrain import constrain_maps
from clipseg_ws.refine.affinity import class_aware_affinity
from clipseg_ws.structures import TextEmbeddings, Tokens
from clipseg_ws.weak_constraints import Constraints


@dataclass(frozen=True, eq=False)
class ClassMaps:
    """Maps of the present classes of B images.

    Attributes:
        classes: for each image the vocabulary indices of its present classes, in order.
        maps: [B, K, h, w] float32 in [0, 1]; image b's first ``len(classes[b])`` maps belong to them, the rest is zero.
        scores: [B, C] float32 in [0, 1], image-level score of every class of the vocabulary.
        background: [B, h, w] float32 in [0, 1], score of the background words; None unless the rule needs it.
        support_iou: [B, S] IoU in [0, 1] of every support segmented from the image (few setting with alignment).
    """

    classes: list[list[int]]
    maps: Tensor
    scores: Tensor
    background: Tensor | None
    support_iou: Tensor | None = None


def class_maps(
    backbone: OpenClipBackbone,
    tokens: Tokens,
    text: TextEmbeddings,
    config: Config,
    present: Tensor | None,
    marks: Sequence[Constraints | None] | None = None,
) -> ClassMaps:
    """Run the stages that ``config`` asks for.

    Args:
        tokens: of B images. text: the embedded vocabulary on the same device.
        present: [B, C] bool, the known classes (weak setting); None: decide by presence, or take all names.
        marks: what boxes, points and scribbles say of each image; None where there are none.
    """
    block = forward_last_block(backbone, tokens.last_input)
    scores = None
    if present is None:
        scores, present = find_present(backbone, tokens, text, config, block)
    classes = [row.nonzero().flatten().tolist() for row in present]
    targets = target_rows(backbone, block, text, present, config.pool)
    competitors = competing_rows(text, targets)
    maps, probs = activation(backbone, tokens, text, config, block, targets, competitors)
    if scores is None:
        scores = tag_scores(probs, targets, classes, present.shape[1])
    maps = spread_maps(maps, classes, tokens.attention, config, marks)
    background = None
    if config.background_rule == "prompts":
        background = dense_probabilities(backbone, tokens, text, config, competitors)[:, text.owner < 0].sum(1)
    return ClassMaps(classes, maps, scores, background)


def spread_maps(
    maps: Tensor,
    classes: list[list[int]],
    attention: Tensor | None,
    config: Config,
    marks: Sequence[Constraints | None] | None = None,
) -> Tensor:
    """Maps [B, K, h, w] spread by the class-aware affinity where ``config`` asks for it; marks respected throughout."""
    maps = _marked(maps, classes, marks)
    if not config.affinity or not maps.shape[1]:
        return maps
    if attention is None:
        raise ValueError("the affinity needs attention, which this model does not give; set affinity=False")
    maps = class_aware_affinity(
        maps, attention, threshold=config.affinity_threshold, sinkhorn_iterations=config.sinkhorn_iterations,
        exclude_last=config.exclude_last,
    )  # fmt: skip
    return _marked(maps, classes, marks)


def _marked(maps: Tensor, classes: list[list[int]], marks: Sequence[Constraints | None] | None) -> Tensor:
    """Maps [B, K, h, w] with every image's marks respected."""
    if marks is None or all(m is None for m in marks):
        return maps
    maps = maps.clone()
    for row, (members, mark) in enumerate(zip(classes, marks, strict=True)):
        if mark is not None:
            maps[row, : len(members)] = constrain_maps(maps[row, : len(members)], mark.select(members))
    return maps


def find_present(
    backbone: OpenClipBackbone, tokens: Tokens, text: TextEmbeddings, config: Config, block: LastBlock | None
) -> tuple[Tensor, Tensor]:
    """Scores [B, C] in [0, 1] and decision [B, C] bool for every name of the vocabulary."""
    scores = presence(
        backbone, tokens, text, block=block, mode=config.dense_mode, logit_scale=config.logit_scale,
        threshold=config.presence_threshold,
    )  # fmt: skip
    kept = scores >= config.presence_threshold if config.presence else torch.ones_like(scores, dtype=torch.bool)
    return scores, kept


def target_rows(
    backbone: OpenClipBackbone, block: LastBlock, text: TextEmbeddings, present: Tensor, pool: str
) -> Tensor:
    """The text row that stands for each present class: [B, K] int64, -1 pads, K = most classes in one image.

    A class with several rows (synonyms kept apart) is represented by the one that fits the image best.
    """
    similarity = normalize(pool_embedding(backbone, block.out, pool)) @ text.vectors.float().t()  # [B, T]
    count = max(int(present.sum(1).max()), 0) if present.numel() else 0
    targets = torch.full((present.shape[0], count), -1, dtype=torch.int64, device=text.owner.device)
    for b, row in enumerate(present):
        for k, c in enumerate(row.nonzero().flatten().tolist()):
            mine = (text.owner == c).nonzero().flatten()
            targets[b, k] = mine[similarity[b, mine].argmax()]
    return targets


def competing_rows(text: TextEmbeddings, targets: Tensor) -> Tensor:
    """[B, T] bool: the rows of the image's own classes and of the background words."""
    own = torch.zeros(targets.shape[0], len(text.owner) + 1, dtype=torch.bool, device=text.owner.device)
    own = own.scatter(1, targets + 1, True)[:, 1:]  # column 0 collects the padding
    return own | (text.owner < 0)


def activation(
    backbone: OpenClipBackbone,
    tokens: Tokens,
    text: TextEmbeddings,
    config: Config,
    block: LastBlock,
    targets: Tensor,
    competitors: Tensor,
) -> tuple[Tensor, Tensor]:
    """Maps [B, K, h, w] in [0, 1] of the targets by the configured activation, and probabilities [B, T]."""
    cam, probs = gradcam_and_probabilities(
        backbone, tokens, text.vectors, targets, logit_scale=config.logit_scale, pool=config.pool,
        competitors=competitors, block=block,
    )  # fmt: skip
    if config.activation == "gradcam" or not targets.shape[1]:
        return cam, probs
    dense = dense_probabilities(backbone, tokens, text, config, competitors)
    index = targets.clamp_min(0)[:, :, None, None].expand(-1, -1, *tokens.grid)
    own = dense.gather(1, index) * (targets >= 0)[:, :, None, None]
    if config.activation == "dense":
        return own, probs
    return min_max((cam * own).flatten(2)).unflatten(-1, tokens.grid), probs


def dense_probabilities(
    backbone: OpenClipBackbone, tokens: Tokens, text: TextEmbeddings, config: Config, competitors: Tensor
) -> Tensor:
    """Softmax over the competing words at every patch: [B, T, h, w] float32."""
    embeddings = dense_embeddings(backbone, tokens, config.dense_mode).float()  # [B, h, w, E]
    scale = backbone.logit_scale if config.logit_scale is None else config.logit_scale
    logits = scale * torch.einsum("bhwe,te->bthw", embeddings, text.vectors.float())
    return logits.masked_fill(~competitors[:, :, None, None], float("-inf")).softmax(1)


def tag_scores(probs: Tensor, targets: Tensor, classes: list[list[int]], count: int) -> Tensor:
    """[B, C]: the softmax probability of every target's row, 0 for classes that were not targets."""
    scores = probs.new_zeros(probs.shape[0], count)
    for b, members in enumerate(classes):
        for k, c in enumerate(members):
            scores[b, c] = probs[b, targets[b, k]]
    return scores
