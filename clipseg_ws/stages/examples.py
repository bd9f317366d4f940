"""Examples beside names: from the tokens of queries and a prepared bank to the same class maps as without examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from clipseg_ws.activations.combine import combine
from clipseg_ws.activations.featuremaps import feature_maps
from clipseg_ws.backbones.protocol import Backbone, PictureModel
from clipseg_ws.config import Config
from clipseg_ws.fewshot.labels import VALUES, rivals
from clipseg_ws.fewshot.matcher import FewShotMaps
from clipseg_ws.pictures.sizes import resize_maps
from clipseg_ws.stages.classmaps import ClassMaps, members
from clipseg_ws.stages.dense import NOTHING, Beside
from clipseg_ws.stages.maps import Marking, class_maps, find_present, no_marks, spread_maps
from clipseg_ws.stages.question import Examples
from clipseg_ws.stages.region_match import matched_regions
from clipseg_ws.structures import Seen, Tokens


@dataclass(frozen=True, eq=False)
class Query:
    """B pictures as CLIP sees them (None where names take no part), and as the model sees them whose features are
    compared (often the same)."""

    backbone: Backbone
    tokens: Tokens | None
    matched_by: PictureModel
    matched: Tokens
    beside: Beside = NOTHING  # ``class_maps``'s, for the names


def example_maps(
    query: Query, examples: Examples, config: Config, present: Tensor | None, marking: Marking = no_marks
) -> ClassMaps:
    """Class maps of the examples, joined with those of the names where there are names.

    Both are spread by the steps first, then joined by a weighted sum of their logarithms (``combine``); a class that
    has only a name or only examples keeps what it has. Maps are on the grid of the model that is matched.

    Args:
        present: [B, C] bool, the known classes (weak setting); None: decided by presence.
        marking: what boxes, points and scribbles say of the maps.
    """
    few = match_examples(query, examples, config)
    if (settings := config.step("region_match")) and query.beside.regions is not None:
        features = feature_maps(query.matched_by, query.matched, examples.matcher.config.kinds)
        few = matched_regions(few, examples.matcher, features, query.beside.regions, settings)
    scores, found = _presence(query, examples, config, few)
    present = found if present is None else present
    classes = members(present, scores.device)
    grid = query.matched.grid
    maps, knows = _gather(few.probabilities, examples.own, classes)
    maps = spread_maps(maps, Seen(query.matched, classes, regions=query.beside.regions), config, marking(classes, grid))
    background = few.probabilities[:, 0] if config.background_rule == "prompts" else None
    if examples.text is not None and query.tokens is not None and maps.shape[1]:
        named = class_maps(query.backbone, query.tokens, examples.text, config, present, marking, query.beside)
        theirs, weight = resize_maps(named.maps.float(), grid), _weights(examples, classes, config)
        maps = combine(maps, theirs, knows, classes >= 0, weight=weight)
        if background is not None and named.background is not None:
            other = resize_maps(named.background[:, None].float(), grid)
            yes = torch.ones(len(other), 1, dtype=torch.bool, device=other.device)
            mean = (weight * (classes >= 0)).sum(1, keepdim=True) / (classes >= 0).sum(1, keepdim=True).clamp_min(1)
            background = combine(background[:, None], other, yes, yes, weight=mean)[:, 0]
            total = background + maps.sum(1)  # of 1 again, as each opinion's was
            maps, background = maps / total[:, None].clamp_min(1e-6), background / total.clamp_min(1e-6)
    return ClassMaps(classes, maps, scores, background, few.alignment)


def _weights(examples: Examples, classes: Tensor, config: Config) -> Tensor:
    """[B, K] weight of the name of every map."""
    if examples.weights is None:
        return torch.full(classes.shape, config.fewshot.text_weight, device=classes.device)
    return examples.weights[classes.clamp_min(0)]


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


def _gather(probabilities: Tensor, own: Sequence[int], classes: Tensor) -> tuple[Tensor, Tensor]:
    """[B, 1+K', h, w] of the bank's classes -> maps [B, K, h, w] of each image's ``classes`` [B, K], and [B, K] bool:
    which of them the bank has."""
    table = torch.zeros(max([*own, 0]) + 2, dtype=torch.int64, device=classes.device)  # class + 1 -> channel, 0: none
    table[[c + 1 for c in own]] = torch.arange(1, len(own) + 1, device=classes.device)
    inside = (classes + 1).clamp_max(len(table) - 1)
    channel = torch.where(classes + 1 < len(table), table[inside], 0)
    index = channel[:, :, None, None].expand(-1, -1, *probabilities.shape[2:])
    return probabilities.gather(1, index) * (channel > 0)[:, :, None, None], channel > 0
