"""From tokens and names to class maps on the patch grid: presence, activation, steps, for a whole batch at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from clipseg_ws.activations.gradcam import gradcam_and_probabilities, min_max
from clipseg_ws.activations.last_block import LastBlock, forward_last_block, normalize, pool_embedding
from clipseg_ws.activations.presence import presence
from clipseg_ws.activations.textscores import words_of
from clipseg_ws.backbones.protocol import Backbone
from clipseg_ws.config import Config
from clipseg_ws.stages.classmaps import ClassMaps, members
from clipseg_ws.stages.dense import NOTHING, Beside, on_grid, patch_embeddings, plain_dense, repaired
from clipseg_ws.stages.grid_marks import GridMarks
from clipseg_ws.stages.map_steps import run_map_steps
from clipseg_ws.structures import Seen, TextEmbeddings, Tokens

PRESENCE_MODE = "maskclip"  # its threshold is calibrated for the values of the patches alone
Marking = Callable[[Tensor, tuple[int, int]], GridMarks | None]  # classes [B, K], grid -> what the marks say there


def no_marks(classes: Tensor, grid: tuple[int, int]) -> None:
    """A ``Marking`` of pictures without marks."""
    return None


def class_maps(
    backbone: Backbone,
    tokens: Tokens,
    text: TextEmbeddings,
    config: Config,
    present: Tensor | None,
    marking: Marking = no_marks,
    beside: Beside = NOTHING,
) -> ClassMaps:
    """Run the stages that ``config`` asks for.

    Args:
        tokens: of B images. text: the embedded vocabulary on the same device.
        present: [B, C] bool, the known classes (weak setting); None: decide by presence, or take all names.
        marking: what boxes, points and scribbles say of the maps.
        beside: features of a second vision model and regions, where they are read.
    """
    tokens = repaired(tokens, config)
    block = forward_last_block(backbone, tokens.last_input, tokens.last, tokens.grid)
    patches = patch_embeddings(backbone, tokens, config, beside).float() if needs_dense(config) else None
    scores = None
    if present is None:
        same = patches if plain_dense(config, PRESENCE_MODE) else None
        scores, present = find_present(backbone, tokens, text, config, block, same)
    classes = members(present, text.owner.device)
    targets = target_rows(backbone, block, text, classes, config.pool)
    competitors = competing_rows(text, targets)
    dense = None
    if patches is not None:
        dense = word_probabilities(patches, tokens.grid, text, _scale(backbone, config), competitors)
    maps, probs = activation(backbone, tokens, text, config, block, targets, competitors, dense)
    if scores is None:
        scores = tag_scores(probs, targets, classes, len(text.vocabulary.names))
    marks = marking(classes, tokens.grid)
    own = own_maps(dense, targets) if dense is not None else None
    maps = spread_maps(maps, Seen(tokens, classes, backbone.depth, dense=own, regions=beside.regions), config, marks)
    background = None
    if dense is not None and config.background_rule == "prompts":
        background = dense.index_select(1, words_of(text.owner).background).sum(1)
    return ClassMaps(classes, maps, scores, background)


def needs_dense(config: Config) -> bool:
    """Whether anything that runs reads dense maps."""
    return bool(config.step("competition")) or config.activation != "gradcam" or config.background_rule == "prompts"


def spread_maps(
    maps: Tensor, seen: Seen, config: Config, marks: GridMarks | None = None, answerer: str = "maps"
) -> Tensor:
    """Maps [B, K, h, w] on the grid of the tokens -> the same after the steps of ``config``; marks respected.

    Raises:
        ValueError: a step reads attention and the model gives none.
    """
    respect = marks.apply if marks is not None else _as_they_are
    return run_map_steps(respect(maps), seen, config, respect, answerer)


def _as_they_are(maps: Tensor) -> Tensor:
    return maps


def find_present(
    backbone: Backbone, tokens: Tokens, text: TextEmbeddings, config: Config, block: LastBlock | None,
    patches: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Scores [B, C] in [0, 1] and decision [B, C] bool for every name of the vocabulary.

    ``patches``: the MaskCLIP embeddings [B, h, w, E] where they are there already.
    """
    scores = presence(
        backbone, tokens, text, block=block, mode=PRESENCE_MODE, logit_scale=config.logit_scale,
        threshold=config.presence_threshold, patches=patches,
    )  # fmt: skip
    kept = scores >= config.presence_threshold if config.presence else torch.ones_like(scores, dtype=torch.bool)
    return scores, kept


def target_rows(
    backbone: Backbone, block: LastBlock, text: TextEmbeddings, classes: Tensor, pool: str
) -> Tensor:
    """The text row that stands for each present class: [B, K] int64, -1 pads; ``classes`` [B, K] as in ``ClassMaps``.

    A class with several rows (synonyms kept apart) is represented by the one that fits the image best.
    """
    similarity = normalize(pool_embedding(backbone, block.out, pool)) @ text.vectors.float().t()  # [B, T]
    mine = text.owner[None, None] == classes[:, :, None]  # [B, K, T]
    best = similarity[:, None].masked_fill(~mine, -torch.inf).argmax(2)
    return torch.where(classes >= 0, best, -1)


def competing_rows(text: TextEmbeddings, targets: Tensor) -> Tensor:
    """[B, T] bool: the rows of the image's own classes and of the background words."""
    own = torch.zeros(targets.shape[0], len(text.owner) + 1, dtype=torch.bool, device=text.owner.device)
    own = own.scatter(1, targets + 1, True)[:, 1:]  # column 0 collects the padding
    return own | (text.owner < 0)


def activation(
    backbone: Backbone,
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
    return torch.unflatten(min_max((cam * own).flatten(2)), -1, tokens.grid), probs


def own_maps(dense: Tensor, targets: Tensor) -> Tensor:
    """The targets' channels of word maps [B, T, h, w]: [B, K, h, w], zero for padding."""
    index = targets.clamp_min(0)[:, :, None, None].expand(-1, -1, *dense.shape[2:])
    return dense.gather(1, index) * (targets >= 0)[:, :, None, None]


def word_probabilities(
    patches: Tensor, grid: tuple[int, int], text: TextEmbeddings, scale: float, competitors: Tensor
) -> Tensor:
    """Softmax over the competing words [B, T] at every patch [B, h', w', E]: [B, T, h, w] float32 on ``grid``."""
    logits = scale * torch.einsum("bhwe,te->bthw", on_grid(patches, grid), text.vectors.float())
    return logits.masked_fill(~competitors[:, :, None, None], float("-inf")).softmax(1)


def tag_scores(probs: Tensor, targets: Tensor, classes: Tensor, count: int) -> Tensor:
    """[B, C]: the softmax probability of every target's row, 0 for classes that were not targets."""
    values = probs.gather(1, targets.clamp_min(0)) * (targets >= 0)
    return probs.new_zeros(probs.shape[0], count + 1).scatter(1, classes + 1, values)[:, 1:]


def _scale(backbone: Backbone, config: Config) -> float:
    return backbone.logit_scale if config.logit_scale is None else config.logit_scale
