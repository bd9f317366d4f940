"""The step ``region_match``: examples answered by whole regions of the query instead of its patches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from clipseg_ws.fewshot.matcher import FewShotMaps, FewShotMatcher
from clipseg_ws.fewshot.prepared import join_kinds
from clipseg_ws.regions.matching import gf_sam, matcher
from clipseg_ws.regions.region_set import RegionSet

WAYS = {"matcher": matcher, "gf-sam": gf_sam}


def matched_regions(
    few: FewShotMaps, bank: FewShotMatcher, features: Mapping[str, Tensor], regions: Sequence[RegionSet],
    settings: Mapping[str, Any],
) -> FewShotMaps:  # fmt: skip
    """``few`` with the probabilities of the regions that are chosen; a picture without regions keeps its patches'.

    Args:
        features: of the queries, by kind, each [B, D, h, w]. settings: parameters of the step, {"kind"}.
    """
    joined = join_kinds(features, bank.config.kinds)
    grid = (joined.shape[2], joined.shape[3])
    choose = WAYS[settings["kind"]]
    rows = []
    for row, one in enumerate(regions):
        if not len(one):
            rows.append(few.probabilities[row])
            continue
        share = torch.from_numpy(one.coverage(grid)).to(joined.device)
        query = joined[row].flatten(1).t()
        maps = []
        for k in bank.asked:
            chosen = choose(query, bank.bank.cells, bank.bank.foreground[k], share, grid)
            maps.append((share * chosen[:, None]).amax(0) if chosen.any() else torch.zeros_like(share[0]))
        rows.append(_shared(torch.stack(maps), few.probabilities[row]).view(-1, *grid))
    return replace(few, probabilities=torch.stack(rows))


def _shared(maps: Tensor, patches: Tensor) -> Tensor:
    """[1+K, N] adding up to 1: regions of several classes are shared as the patches say.

    Args:
        maps: [K, N] in [0, 1]. patches: [1+K, h, w] probabilities.
    """
    most = maps.amax(0)
    wish = maps * patches[1:].flatten(1).clamp_min(1e-6)
    return torch.cat([(1 - most)[None], most * wish / wish.sum(0).clamp_min(1e-12)])
