"""Query-side refinement: foreground and background are fitted anew to what the query itself shows with confidence.

* SROFB (Self-Regularized Prototypes with an Online Foreground-Background classifier, Ding et al., arXiv 2210.12897):
  a linear classifier of foreground against background made for each query. Here it is a ridge regression in closed form
  on the supports' cells and the query's confident ones.
* Adaptive prototypes (APANet, Chen et al., IEEE TMM 2022, arXiv 2111.12263): class-agnostic prototypes from the query,
  here clusters of its confident background.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from clipseg_ws.activations.parts import kmeans


@dataclass(frozen=True, eq=False)
class Seeds:
    """Confident cells of B queries. foreground: [B, K, N] and background: [B, N], float32, 1 where a cell counts."""

    foreground: Tensor
    background: Tensor


def find_seeds(maps: Tensor, *, sure: float = 0.85, unsure: float = 0.6) -> Seeds:
    """Cells that a prediction is sure about.

    Args:
        maps: [B, K, h, w] in [0, 1], each stretched to its full range.
        sure: from this value on a cell is a seed of the class with the largest map there.
        unsure: up to this value of the largest map a cell is a seed of the background.

    Raises:
        ValueError: not 0 <= unsure <= sure <= 1.
    """
    if not 0 <= unsure <= sure <= 1:
        raise ValueError(f"sure={sure}, unsure={unsure}; 0 <= unsure <= sure <= 1 is needed, for example 0.85 and 0.6")
    flat = maps.float().flatten(2)
    best, owner = flat.max(1)  # [B, N]
    mine = F.one_hot(owner, flat.shape[1]).transpose(1, 2)  # [B, K, N]
    return Seeds((mine * (flat >= sure)).float(), ((best <= unsure) & (best < sure)).float())


def query_prototypes(features: Tensor, seeds: Seeds, background_clusters: int = 3) -> tuple[Tensor, Tensor]:
    """Prototypes of the query's own seeds.

    Args:
        features: [B, D, h, w]. background_clusters: Q, see ``parts.kmeans``.

    Returns:
        [B, K, D] unit foreground vectors and [B, Q, D] unit background vectors; zero where there are no seeds.
    """
    cells = F.normalize(features.float().flatten(2), dim=1).transpose(1, 2)  # [B, N, D]
    foreground = F.normalize(seeds.foreground @ cells, dim=-1)
    return foreground, kmeans(cells, seeds.background, background_clusters)


def blend(support: Tensor, query: Tensor, share: float) -> Tensor:
    """Unit vectors between the support's and the query's prototypes.

    Args:
        support: [..., D] or [B, ..., D]. query: [B, ..., D]; where it is zero the support's stays.
        share: of the query, in [0, 1]; 0 keeps the support's.
    """
    known = query.norm(dim=-1, keepdim=True) > 0
    mine = F.normalize(support.float(), dim=-1)
    return F.normalize(torch.where(known, (1 - share) * mine + share * query, mine), dim=-1)


@dataclass(frozen=True, eq=False)
class Moments:
    """Weighted sums over the supports' cells, one set a class, inside and outside adding up to 1 each.

    Attributes:
        inside, outside: [K, D] mean unit vectors of the class and of everything else.
        second: [K, D, D] mean of the two second moments.
    """

    inside: Tensor
    outside: Tensor
    second: Tensor


def support_moments(cells: Tensor, foreground: Tensor, background: Tensor) -> Moments:
    """What the classifier needs to know of the supports, computed once for a bank.

    Args:
        cells: [M, D] of all supports. foreground: [K, M] share of each class in each cell. background: [K, M] share of
            everything that is not the class.
    """
    unit = F.normalize(cells.float(), dim=-1)
    a, b = (w.float() / w.float().sum(1, keepdim=True).clamp_min(1e-12) for w in (foreground, background))
    both = (a + b) / 2
    return Moments(a @ unit, b @ unit, torch.einsum("km,md,me->kde", both, unit, unit))


def classify_online(
    features: Tensor, seeds: Seeds, moments: Moments, *, ridge: float = 1.0, query_share: float = 0.5
) -> Tensor:
    """A linear classifier of every class against the rest, fitted for each query and applied to it.

    Least squares on unit vectors with targets +1 and -1, where the class and the rest count alike and supports and
    query by ``query_share``; the penalty is ``ridge`` times the mean variance of a channel.

    Args:
        features: [B, D, h, w]. seeds: of ``find_seeds``. moments: of ``support_moments``.
        ridge: strength of the penalty, positive. query_share: weight of the query's seeds, in [0, 1].

    Returns:
        [B, K, h, w] float32, about -1 (rest) to +1 (class).
    """
    if ridge <= 0 or not 0 <= query_share <= 1:
        raise ValueError(
            f"ridge={ridge}, query_share={query_share}; a positive number and a share in [0, 1] are needed"
        )
    cells = F.normalize(features.float().flatten(2), dim=1).transpose(1, 2)  # [B, N, D]
    own, other = seeds.foreground, _rest(seeds)
    share = query_share * ((own.sum(2) > 0) & (other.sum(2) > 0)).float()[..., None]  # [B, K, 1]
    own, other = (w / w.sum(2, keepdim=True).clamp_min(1e-12) for w in (own, other))
    inside = share * (own @ cells) + (1 - share) * moments.inside  # [B, K, D]
    outside = share * (other @ cells) + (1 - share) * moments.outside
    weights = (own + other) / 2
    second = torch.einsum("bkn,bnd,bne->bkde", weights, cells, cells)
    second = share[..., None] * second + (1 - share[..., None]) * moments.second
    centre = (inside + outside) / 2
    covariance = second - centre[..., None] * centre[..., None, :]
    size = covariance.shape[-1]
    penalty = ridge * covariance.diagonal(dim1=-2, dim2=-1).mean(-1).clamp_min(1e-8)
    covariance = covariance + penalty[..., None, None] * torch.eye(size, device=cells.device)
    slope = torch.linalg.solve(covariance, (inside - outside)[..., None] / 2)  # [B, K, D, 1]
    offset = (centre[..., None, :] @ slope)[..., 0]  # [B, K, 1]
    return torch.unflatten((cells[:, None] @ slope)[..., 0] - offset, 2, features.shape[2:])


def _rest(seeds: Seeds) -> Tensor:
    """[B, K, N]: for each class the seeds of the background and of the other classes."""
    total = seeds.background[:, None] + seeds.foreground.sum(1, keepdim=True)
    return total - seeds.foreground
