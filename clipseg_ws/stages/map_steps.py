"""The steps on the patch grid as the table of steps calls them: maps and what was seen in, maps out.

Labels given by the user are applied again after every step, so no step contradicts one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from clipseg_ws.activations.crossimage import cross_image, unit_patches
from clipseg_ws.activations.drs import suppress_discriminative
from clipseg_ws.config import STEPS, Config
from clipseg_ws.refine.affinity import class_aware_affinity
from clipseg_ws.refine.boundary import boundary_map, spread_to_boundaries, sure_labels
from clipseg_ws.refine.expand_shrink import expand_shrink
from clipseg_ws.refine.saliency import apply_saliency, attention_saliency
from clipseg_ws.refine.structure import block_structure
from clipseg_ws.regions.affinity import region_affinity
from clipseg_ws.structures import Seen


def run_map_steps(
    maps: Tensor, seen: Seen, config: Config, respect: Callable[[Tensor], Tensor], answerer: str = "maps"
) -> Tensor:
    """Maps [B, K, h, w] in [0, 1] after the configured steps, one after the other.

    Args:
        respect: puts the user's marks into maps; called after every step.
        answerer: who runs them: steps of ``STEPS`` that are not for it are passed over.

    Raises:
        ValueError: a step reads attention and the model gives none.
    """
    if not maps.shape[1]:
        return maps
    steps = [(name, given) for name, given in config.run_at("maps") if answerer in STEPS[name].about["answerers"]]
    if any("attention_blocks" in STEPS[name].about.get("reads", ()) for name, _ in steps):
        seen = replace(seen, graph=patch_graph(seen, config))
    for name, parameters in steps:
        maps = respect(STEPS[name].load()(maps, seen, **parameters))
    return maps


def patch_graph(seen: Seen, config: Config) -> Tensor:
    """[B, N, N] non-negative: the tokens' mean attention, or what a step of kind "graph" makes.

    Raises ValueError where the model gives no attention.
    """
    steps = config.run_at("graph")
    for name, parameters in steps:
        seen = replace(seen, graph=STEPS[name].load()(seen, **parameters))
    if seen.graph is not None:
        return seen.graph
    if seen.tokens.attention is None:
        raise ValueError("this model gives no attention; set affinity=false, or structure=similarity")
    return seen.tokens.attention


def structure_layers(config: Config, depth: int) -> tuple[int, ...]:
    """Blocks whose tokens the step ``structure`` needs besides the last block's input."""
    given = config.step("structure")
    return () if given is None else tuple(range(max(depth - 1 - given["blocks"], 0), depth - 2))


def suppression(maps: Tensor, seen: Seen, *, share: float) -> Tensor:
    """See ``activations.drs``."""
    return suppress_discriminative(maps, share)


def structure(seen: Seen, *, kind: str, blocks: int) -> Tensor:
    """[B, N, N]: the likeness of ``blocks`` blocks' tokens and of the last block's input, see ``refine.structure``.

    "both" adds it to the attention, rows of each summing to one. Without ``seen.depth`` only the last input counts.
    """
    tokens = seen.tokens
    earlier = [tokens.layers[i] for i in range(max(seen.depth - 1 - blocks, 0), seen.depth - 2)]
    alike = block_structure([*earlier, tokens.last_input[:, 1:]])
    if kind == "similarity":
        return alike
    if tokens.attention is None:
        raise ValueError("this model gives no attention; set structure=similarity")
    attention = tokens.attention.float()
    return (attention / attention.sum(-1, keepdim=True) + alike) / 2


def affinity(maps: Tensor, seen: Seen, *, threshold: float, sinkhorn_iterations: int, exclude_last: bool) -> Tensor:
    """See ``refine.affinity``."""
    assert seen.graph is not None
    return class_aware_affinity(
        maps, seen.graph, threshold=threshold, sinkhorn_iterations=sinkhorn_iterations, exclude_last=exclude_last
    )


def expanded(maps: Tensor, seen: Seen) -> Tensor:
    """See ``refine.expand_shrink``."""
    return expand_shrink(maps, unit_patches(seen.tokens.last_input[:, 1:]))


def crossed(maps: Tensor, seen: Seen, *, weight: float) -> Tensor:
    """See ``activations.crossimage``."""
    return cross_image(maps, unit_patches(seen.tokens.last_input[:, 1:]), seen.classes, weight)


def salient(maps: Tensor, seen: Seen, *, weight: float) -> Tensor:
    """See ``refine.saliency``."""
    assert seen.graph is not None
    return apply_saliency(maps, attention_saliency(seen.graph, seen.tokens.grid), weight)


def bounded(maps: Tensor, seen: Seen, *, sure: float, unsure: float, radius: int, rounds: int) -> Tensor:
    """See ``refine.boundary``."""
    features = torch.unflatten(seen.tokens.last_input[:, 1:].float().transpose(1, 2), 2, seen.tokens.grid)
    found = boundary_map(features, sure_labels(maps, sure, unsure), radius=radius)
    return spread_to_boundaries(maps, found, radius=radius, rounds=rounds)


def between_regions(maps: Tensor, seen: Seen, *, weight: float, sharpness: float) -> Tensor:
    """See ``regions.affinity``."""
    assert seen.regions is not None
    patches = seen.tokens.last_input[:, 1:]
    return region_affinity(maps, patches, seen.regions, weight=weight, sharpness=sharpness)


def competition(maps: Tensor, seen: Seen, *, weight: float) -> Tensor:
    """``map^(1 - weight) * dense^weight``: what the affinity spread over a neighbour is taken back where the patch
    itself speaks for the neighbour. Maps of examples alone have no dense maps and stay."""
    return maps if seen.dense is None else maps ** (1 - weight) * seen.dense**weight
