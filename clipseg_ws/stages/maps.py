"""From tokens to class maps on the patch grid: presence, activation, affinity, for a batch with its own class lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from clipseg_ws.activations.drs import suppress_discriminative
from clipseg_ws.activations.gradcam import gradcam_and_probabilities, min_max
from clipseg_ws.activations.last_block import LastBlock, forward_last_block, normalize, pool_embedding
from clipseg_ws.activations.presence import presence
from clipseg_ws.backbones.openclip import OpenClipBackbone
from clipseg_ws.config import Config
from clipseg_ws.refine.affinity import class_aware_affinity
from clipseg_ws.stages.better_maps import improve, patch_graph
from clipseg_ws.stages.constrain import constrain_maps
from clipseg_ws.stages.dense import on_grid, patch_embeddings, repaired
from clipseg_ws.structures import TextEmbeddings, Tokens
from clipseg_ws.weak.constraints import Constraints

PRESENCE_MODE = "maskclip"  # its threshold is calibrated for the values of the patches alone


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
    proxy: Tensor | None = None,
) -> ClassMaps:
    """Run the stages that ``config`` asks for.

    Args:
        tokens: of B images. text: the embedded vocabulary on the same device.
        present: [B, C] bool, the known classes (weak setting); None: decide by presence, or take all names.
        marks: what boxes, points and scribbles say of each image; None where there are none.
        proxy: [B, C', h', w'] patch features of a second vision model, where the dense maps follow them.
    """
    tokens = repaired(tokens, config)
    block = forward_last_block(backbone, tokens.last_input, tokens.last)
    scores = None
    if present is None:
        scores, present = find_present(backbone, tokens, text, config, block)
    classes = [row.nonzero().flatten().tolist() for row in present]
    targets = target_rows(backbone, block, text, present, config.pool)
    competitors = competing_rows(text, targets)
    dense = None
    if config.competition or config.activation != "gradcam" or config.background_rule == "prompts":
        dense = dense_probabilities(backbone, tokens, text, config, competitors, proxy)
    maps, probs = activation(backbone, tokens, text, config, block, targets, competitors, dense)
    if scores is None:
        scores = tag_scores(probs, targets, classes, present.shape[1])
    maps = spread_maps(maps, classes, tokens, config, marks, backbone.depth)
    background = None
    if dense is not None:
        maps = _marked(competed(maps, dense, targets, config.competition), classes, marks)
        if config.background_rule == "prompts":
            background = dense[:, text.owner < 0].sum(1)
    return ClassMaps(classes, maps, scores, background)


def spread_maps(
    maps: Tensor,
    classes: list[list[int]],
    tokens: Tokens,
    config: Config,
    marks: Sequence[Constraints | None] | None = None,
    depth: int = 0,
) -> Tensor:
    """Maps [B, K, h, w] on the grid of ``tokens`` -> the same, spread and bettered as ``config`` asks; marks respected.

    ``depth`` as for ``patch_graph``.

    Raises:
        ValueError: the affinity is asked for and the model gives no attention.
    """
    maps = _marked(suppress_discriminative(maps, config.suppression), classes, marks)
    graph = patch_graph(tokens, config, depth) if maps.shape[1] and (config.affinity or config.saliency) else None
    if config.affinity and graph is not None:
        maps = class_aware_affinity(
            maps, graph, threshold=config.affinity_threshold, sinkhorn_iterations=config.sinkhorn_iterations,
            exclude_last=config.exclude_last,
        )  # fmt: skip
        maps = _marked(maps, classes, marks)
    return _marked(improve(maps, tokens, graph, classes, config), classes, marks)


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
        backbone, tokens, text, block=block, mode=PRESENCE_MODE, logit_scale=config.logit_scale,
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
    dense: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Maps [B, K, h, w] in [0, 1] of the targets by the configured activation, and probabilities [B, T]."""
    cam, probs = gradcam_and_probabilities(
        backbone, tokens, text.vectors, targets, logit_scale=config.logit_scale, pool=config.pool,
        competitors=competitors, block=block,
    )  # fmt: skip
    if config.activation == "gradcam" or not targets.shape[1]:
        return cam, probs
    assert dense is not None
    own = own_maps(dense, targets)
    if config.activation == "dense":
        return own, probs
    return min_max((cam * own).flatten(2)).unflatten(-1, tokens.grid), probs


def own_maps(dense: Tensor, targets: Tensor) -> Tensor:
    """The targets' channels of word maps [B, T, h, w]: [B, K, h, w], zero for padding."""
    index = targets.clamp_min(0)[:, :, None, None].expand(-1, -1, *dense.shape[2:])
    return dense.gather(1, index) * (targets >= 0)[:, :, None, None]


def competed(maps: Tensor, dense: Tensor, targets: Tensor, weight: float) -> Tensor:
    """``map^(1 - weight) * dense^weight`` [B, K, h, w]: what the affinity spread over a neighbour is taken back where
    the patch itself speaks for the neighbour. ``weight`` 0 changes nothing."""
    if not weight or not maps.shape[1]:
        return maps
    return maps ** (1 - weight) * own_maps(dense, targets) ** weight


def dense_probabilities(
    backbone: OpenClipBackbone,
    tokens: Tokens,
    text: TextEmbeddings,
    config: Config,
    competitors: Tensor,
    proxy: Tensor | None = None,
) -> Tensor:
    """Softmax over the competing words at every patch: [B, T, h, w] float32."""
    embeddings = on_grid(patch_embeddings(backbone, tokens, config, proxy).float(), tokens.grid)  # [B, h, w, E]
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
