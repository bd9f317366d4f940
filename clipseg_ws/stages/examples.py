"""Examples beside names: from the tokens of queries and a prepared bank to the same class maps as without examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from clipseg_ws.activations.combine import combine
from clipseg_ws.activations.featuremaps import feature_maps
from clipseg_ws.backbones.features import FeatureBackbone
from clipseg_ws.backbones.openclip import OpenClipBackbone
from clipseg_ws.config import Config
from clipseg_ws.fewshot.labels import VALUES, rivals
from clipseg_ws.fewshot.matcher import FewShotMaps, FewShotMatcher
from clipseg_ws.pictures.sizes import resize_maps
from clipseg_ws.stages.maps import ClassMaps, class_maps, find_present, spread_maps
from clipseg_ws.structures import TextEmbeddings, Tokens
from clipseg_ws.weak.constraints import Constraints


@dataclass(frozen=True, eq=False)
class Examples:
    """A bank that takes part in an answer.

    Attributes:
        matcher: the prepared bank. own: vocabulary index of each of the matcher's asked classes. count: classes C.
        text: names beside the examples, or None: the examples alone. known: other known words (BAM), or None.
    """

    matcher: FewShotMatcher
    own: tuple[int, ...]
    count: int
    text: TextEmbeddings | None
    known: TextEmbeddings | None


@dataclass(frozen=True, eq=False)
class Query:
    """B pictures as CLIP sees them (None where names take no part), and as the model sees them whose features are
    compared (often the same)."""

    backbone: OpenClipBackbone
    tokens: Tokens | None
    matched_by: OpenClipBackbone | FeatureBackbone
    matched: Tokens
    proxy: Tensor | None = None  # ``class_maps``'s, for the names


def example_maps(
    query: Query,
    examples: Examples,
    config: Config,
    present: Tensor | None,
    marks: Sequence[Constraints | None] | None = None,
) -> ClassMaps:
    """Class maps of the examples, joined with those of the names where there are names.

    Both are spread by the affinity first, then joined by a weighted sum of their logarithms (``combine``); a class that
    has only a name or only examples keeps what it has. Maps are on the grid of the model that is matched.

    Args:
        present: [B, C] bool, the known classes (weak setting); None: decided by presence.
        marks: what boxes, points and scribbles say of each image.
    """
    few = match_examples(query, examples, config)
    scores, found = _presence(query, examples, config, few)
    present = found if present is None else present
    classes = [row.nonzero().flatten().tolist() for row in present]
    maps, knows = _gather(few.probabilities, examples.own, classes)
    maps = spread_maps(maps, classes, query.matched, config, marks)
    background = few.probabilities[:, 0] if config.background_rule == "prompts" else None
    if examples.text is not None and query.tokens is not None and maps.shape[1]:
        named = class_maps(query.backbone, query.tokens, examples.text, config, present, marks, query.proxy)
        theirs = resize_maps(named.maps.float(), query.matched.grid)
        asked = torch.tensor([[k < len(c) for k in range(maps.shape[1])] for c in classes], device=maps.device)
        maps = combine(maps, theirs, knows, asked, weight=config.fewshot.text_weight)
        if background is not None and named.background is not None:
            other = resize_maps(named.background[:, None].float(), query.matched.grid)
            yes = torch.ones(len(other), 1, dtype=torch.bool, device=other.device)
            background = combine(background[:, None], other, yes, yes, weight=config.fewshot.text_weight)[:, 0]
    return ClassMaps(classes, maps, scores, background, few.alignment)


def match_examples(query: Query, examples: Examples, config: Config) -> FewShotMaps:
    """The bank compared with the queries."""
    matcher = examples.matcher
    features = feature_maps(query.matched_by, query.matched, matcher.config.kinds)
    against = None
    if examples.known is not None and query.tokens is not None:
        values = feature_maps(query.backbone, query.tokens, (VALUES,))[VALUES]
        scale = query.backbone.logit_scale if config.logit_scale is None else config.logit_scale
        against = rivals(values, matcher.source, examples.known, scale)
        against = resize_maps(against, query.matched.grid)
    return matcher(features, against)


def _presence(query: Query, examples: Examples, config: Config, few: FewShotMaps) -> tuple[Tensor, Tensor]:
    """Scores [B, C] in [0, 1] and decision [B, C] bool: of the examples, of the names, or of both.

    Both: the weighted geometric mean of the two scores against that of the two thresholds.
    """
    weight, own = config.fewshot.text_weight, list(examples.own)
    scores = few.presence.new_zeros(len(few.presence), examples.count)
    scores[:, own] = few.presence
    limits = torch.full((examples.count,), config.fewshot.presence_threshold, device=scores.device)
    if examples.text is not None and query.tokens is not None:
        said, _ = find_present(query.backbone, query.tokens, examples.text, config, None)
        limit = torch.full_like(limits, config.presence_threshold)
        shown = torch.zeros_like(limits, dtype=torch.bool)
        shown[own] = True
        scores = torch.where(shown, scores ** (1 - weight) * said**weight, said)
        limits = torch.where(shown, limits ** (1 - weight) * limit**weight, limit)
    able = torch.zeros(examples.count, dtype=torch.bool, device=scores.device)
    able[own] = True
    if examples.text is not None:
        able[:] = True
    kept = scores >= limits if config.presence else torch.ones_like(scores, dtype=torch.bool)
    return scores, kept & able


def _gather(probabilities: Tensor, own: Sequence[int], classes: list[list[int]]) -> tuple[Tensor, Tensor]:
    """[B, 1+K', h, w] of the bank's classes -> maps [B, K, h, w] of each image's classes, [B, K] which have some."""
    count = max((len(members) for members in classes), default=0)
    maps = probabilities.new_zeros(len(classes), count, *probabilities.shape[2:])
    knows = torch.zeros(len(classes), count, dtype=torch.bool, device=probabilities.device)
    place = {c: k for k, c in enumerate(own)}
    for b, members in enumerate(classes):
        for k, c in enumerate(members):
            if c in place:
                maps[b, k], knows[b, k] = probabilities[b, 1 + place[c]], True
    return maps, knows
