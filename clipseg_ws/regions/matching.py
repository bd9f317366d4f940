"""Examples and regions: which regions of a query are the thing that the supports show. One query, one class.

``matcher`` (Liu et al., ICLR 2024, arXiv 2305.13310): support and query tokens are assigned to one another both ways;
query tokens whose way back ends inside the support's mask are points. Regions are ranked by
``alpha (1 - emd) + beta purity coverage^exp`` with the paper's 0.8, 0.2 and 1 (of FSS-1000): how near their tokens are
to the support's, how much of them is points, and how many of the points they hold. Those that reach 0.7 of the best
are joined, 10 at most. The earth mover's distance is the relaxed one: the larger of the two mean distances to the
nearest token.

``gf_sam`` (Zhang et al., NeurIPS 2024, arXiv 2410.06964): points are where the likeness to the support's object is
above that to its ground, 128 at most; the mask of a point is the smallest region that holds it (in the paper SAM's
answer to the point). Masks and the points that they cover are a directed graph, whose weakly connected parts are
clusters. A mask stays where most of what it adds is like the object (positive gating), and a cluster where most of its
points are nearer in kind and place to it than to the others (overshooting gating). There is nothing to set.
"""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from scipy.sparse.csgraph import connected_components
from torch import Tensor

MOST_POINTS = 128
MOST_REGIONS = 10
REACH = 0.7  # share of the best region's score that another needs
MOST_TOKENS = 1024  # of the supports, evenly taken, that are assigned


def matcher(
    query: Tensor, support: Tensor, inside: Tensor, share: Tensor, grid: tuple[int, int], *, alpha: float = 0.8,
    beta: float = 0.2, exp: float = 1.0,
) -> Tensor:  # fmt: skip
    """[n] bool, the regions that are the thing.

    Args:
        query: [N, D] unit tokens, row by row on ``grid``. support: [M, D] unit tokens of all supports.
        inside: [M] share in [0, 1] of the object in each. share: [n, N] of each query cell in each region.
    """
    points = matched_points(query, support, inside >= 0.5)
    held = share >= 0.5
    held[share.amax(1) < 0.5] = share[share.amax(1) < 0.5] > 0  # a region smaller than a cell
    hits = (held & points).sum(1).float()
    if not hits.any():
        return torch.zeros(len(share), dtype=torch.bool, device=share.device)
    purity, coverage = hits / held.sum(1).clamp_min(1), hits / points.sum()
    score = torch.zeros_like(hits)
    thing = _some(support[inside >= 0.5])
    for n in hits.nonzero().flatten().tolist():
        far = relaxed_distance(query[held[n]], thing)
        score[n] = alpha * (1 - far) + beta * purity[n] * coverage[n] ** exp
    kept = (hits > 0) & (score >= REACH * score.max()) & (2 * purity >= purity[score.argmax()])
    best = torch.zeros_like(kept)
    best[score.topk(min(MOST_REGIONS, len(score))).indices] = True
    return kept & best


def matched_points(query: Tensor, support: Tensor, inside: Tensor) -> Tensor:
    """[N] bool: query tokens that an object's token is assigned to and whose own way back ends inside the object.

    Args:
        query: [N, D]. support: [M, D]. inside: [M] bool.
    """
    points = torch.zeros(len(query), dtype=torch.bool, device=query.device)
    if not inside.any():
        return points
    thing = _some(support[inside])
    forth = linear_sum_assignment((thing @ query.t()).float().cpu().numpy(), maximize=True)[1]
    chosen = torch.from_numpy(forth).to(query.device)
    back = (query[chosen] @ support.t()).argmax(1)
    points[chosen[inside[back]]] = True
    return points


def relaxed_distance(one: Tensor, two: Tensor) -> Tensor:
    """In [0, 1]: the larger of the two mean distances (1 - cosine) / 2 from a token to the nearest of the others."""
    far = (1 - one @ two.t()) / 2
    return torch.maximum(far.amin(1).mean(), far.amin(0).mean())


def gf_sam(query: Tensor, support: Tensor, inside: Tensor, share: Tensor, grid: tuple[int, int]) -> Tensor:
    """[n] bool, the regions that are the thing; arguments as in ``matcher``."""
    chosen = torch.zeros(len(share), dtype=torch.bool, device=share.device)
    alike = query @ support.t()  # [N, M]
    mean = (alike * inside).sum(1) / inside.sum().clamp_min(1e-12)
    ground = (alike * (1 - inside)).sum(1) / (1 - inside).sum().clamp_min(1e-12)
    cross = _stretched(mean * (alike * inside).amax(1))
    wanted = cross * (cross >= _stretched(ground))
    count = min(MOST_POINTS, max(int(wanted.sum()), int((wanted > 0).any())))
    points = wanted.topk(count).indices
    held = share >= 0.5
    areas = share.sum(1)
    masks = torch.where(held[:, points], areas[:, None], torch.inf).argmin(0)  # [P] the smallest that holds it
    real = held[masks, points]
    points, masks = points[real], masks[real]
    if not len(points):
        return chosen
    cover = held[masks][:, points]  # [P, P] mask of i covers point j
    found = connected_components(cover.cpu().numpy(), connection="weak")[1]
    clusters = torch.from_numpy(found).long().to(points.device)
    middle = (mean.max() + mean.min()) / 2
    fits = positive(held[masks].float(), clusters, mean * mean - ground * middle)
    near = consistent(query, held[masks].float(), clusters, points, grid)
    good = fits & near
    if not good.any():  # the paper's way out: the best mask that passes one of the two
        either = fits | near
        if not either.any():
            return chosen
        value = ((mean - ground) * held[masks]).sum(1) / held[masks].sum(1)
        good = value == value.masked_fill(~either, -torch.inf).max()
    chosen[masks[good]] = True
    return chosen


def positive(masks: Tensor, clusters: Tensor, margin: Tensor) -> Tensor:
    """[P] bool: of each cluster's masks, the best first, those that add more cells above 0 than below.

    Args:
        masks: [P, N] 0 or 1. clusters: [P]. margin: [N] how much more a cell is like the object.
    """
    kept = torch.zeros(len(masks), dtype=torch.bool, device=masks.device)
    value = (masks * margin).sum(1) / masks.sum(1).clamp_min(1)
    for cluster in sorted(set(clusters.tolist())):
        mine = (clusters == cluster).nonzero().flatten()
        grown = torch.zeros_like(margin)
        for i in mine[value[mine].argsort(descending=True, stable=True)].tolist():
            fresh = masks[i] * (1 - grown)
            if (fresh * (margin > 0)).sum() > (fresh * (margin <= 0)).sum() or (not fresh.any() and kept[i]):
                grown, kept[i] = grown + fresh, True
            elif not fresh.any():  # the very mask of another point
                kept[i] = bool((kept[mine] & (masks[mine] == masks[i]).all(1)).any())
    return kept


def consistent(query: Tensor, masks: Tensor, clusters: Tensor, points: Tensor, grid: tuple[int, int]) -> Tensor:
    """[P] bool: points nearer in kind and place to their own cluster than to another, of clusters where most are."""
    place = torch.stack([points // grid[1], points % grid[1]], 1).float()
    distance = torch.cdist(place, place)
    own = []
    for cluster in range(int(clusters.max()) + 1):
        union = masks[clusters == cluster].amax(0)
        likeness = query[points] @ (query * union[:, None]).sum(0) / union.sum().clamp_min(1)
        far = distance[:, clusters == cluster].amin(1)
        own.append(likeness / torch.where(far == 0, 1.0, far))
    agrees = torch.stack(own).argmax(0) == clusters
    for cluster in range(len(own)):
        mine = clusters == cluster
        if 2 * agrees[mine].sum() < mine.sum():
            agrees[mine] = False
    return agrees


def _stretched(values: Tensor) -> Tensor:
    return (values - values.min()) / (values.max() - values.min() + 1e-6)


def _some(tokens: Tensor) -> Tensor:
    if len(tokens) <= MOST_TOKENS:
        return tokens
    return tokens[torch.linspace(0, len(tokens) - 1, MOST_TOKENS).long()]
