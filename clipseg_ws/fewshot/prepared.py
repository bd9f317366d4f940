"""A bank made ready for matching: vectors, parts, cells and moments, computed once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from clipseg_ws.activations.online import Moments, support_moments
from clipseg_ws.activations.parts import kmeans
from clipseg_ws.activations.prototypes import background_prototype, masked_average_pooling
from clipseg_ws.fewshot.bank import BankError, SupportBank
from clipseg_ws.pictures.loading import grouped

NEAR = 2048  # cells of a class that the dense prior compares with, at most


@dataclass(frozen=True, eq=False)
class Group:
    """Supports of one grid. index: [s] places in the bank; features [s, D, h, w]; foreground, background [s, h, w]."""

    index: Tensor
    features: Tensor
    foreground: Tensor
    background: Tensor


@dataclass(frozen=True, eq=False)
class Prepared:
    """What matching needs of S supports of K classes; all features are the kinds' unit vectors joined (``join_kinds``).

    Attributes:
        ways: [S] class of each support. groups: the supports by grid.
        shown, ground: [S, D] unit vectors of each support's foreground and background.
        parts: [K, P, D] parts of each class's foreground, P = 0 without. background: [Q, D] the mean and its parts.
        cells: [M, D] all cells. foreground: [K, M] share of each class in each cell.
        near: background's and every class's own cells, at most ``NEAR`` evenly taken, each [m, D], for the dense prior.
        moments: for the online classifier.
    """

    ways: Tensor
    groups: list[Group]
    shown: Tensor
    ground: Tensor
    parts: Tensor
    background: Tensor
    cells: Tensor
    foreground: Tensor
    near: list[Tensor]
    moments: Moments


def join_kinds(features: Mapping[str, Tensor], kinds: Sequence[str]) -> Tensor:
    """Several kinds of features as one: unit vectors of each, joined; the cosine is then about the mean of the kinds'
    (MSANet, Iqbal et al., arXiv 2206.09667). kind -> [B, D, h, w] gives [B, sum of D, h, w] float32, unit vectors."""
    parts = [F.normalize(features[kind].float(), dim=1) for kind in kinds]
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1) / len(parts) ** 0.5


def prepare(bank: SupportBank, kinds: Sequence[str], parts: int = 1, background_parts: int = 1) -> Prepared:
    """Everything of ``Prepared``; ``parts`` or ``background_parts`` of 1 stand for the mean alone.

    Raises:
        BankError: the bank lacks a kind.
    """
    missing = [kind for kind in kinds if kind not in bank.kinds]
    if missing:
        raise BankError(
            f"this bank has the features {', '.join(bank.kinds)}, not {', '.join(missing)}; encode it again"
        )
    device = bank.entries[0].foreground.device
    ways = torch.tensor([bank.labels.index(entry.label) for entry in bank.entries], device=device)
    groups = _groups(bank, kinds, device)
    shown, ground = _vectors(groups, len(ways))
    cells = torch.cat([g.features.flatten(2).transpose(1, 2).flatten(0, 1) for g in groups])  # [M, D]
    owner = torch.cat([ways[g.index].repeat_interleave(g.features[0, 0].numel()) for g in groups])  # [M]
    share = torch.cat([g.foreground.flatten() for g in groups])
    rest = torch.cat([g.background.flatten() for g in groups])
    mine = F.one_hot(owner, len(bank.labels)).t() * share  # [K, M]
    # everything that is not the class: backgrounds of all supports, and other classes' foregrounds
    others = rest + mine.sum(0) - mine
    inner = [_inner(m) for m in mine]
    mean = F.normalize(background_prototype(ground, ways, len(bank.labels)), dim=-1)
    return Prepared(
        ways, groups, shown, ground,
        torch.stack([_clusters(cells, weights, parts) for weights in inner]),
        torch.cat([mean, _clusters(cells, _inner(rest), background_parts)]),
        cells, mine, [_some(cells[weights > 0]) for weights in (_inner(rest), *inner)],
        support_moments(cells, mine, others),
    )  # fmt: skip


def _groups(bank: SupportBank, kinds: Sequence[str], device: torch.device) -> list[Group]:
    return [
        Group(
            torch.tensor(index, device=device),
            join_kinds({kind: torch.stack([bank.entries[i].features[kind] for i in index]) for kind in kinds}, kinds),
            torch.stack([bank.entries[i].foreground for i in index]),
            torch.stack([bank.entries[i].background for i in index]),
        )
        for index in grouped([entry.foreground.shape for entry in bank.entries])
    ]


def _vectors(groups: Sequence[Group], count: int) -> tuple[Tensor, Tensor]:
    """Unit vectors of foregrounds and backgrounds in the bank's order, each [S, D]."""
    order = torch.cat([g.index for g in groups]).argsort()
    shown = torch.cat([masked_average_pooling(g.features, g.foreground) for g in groups])[order]
    ground = torch.cat([masked_average_pooling(g.features, g.background) for g in groups])[order]
    return F.normalize(shown, dim=-1), F.normalize(ground, dim=-1)


def _some(cells: Tensor) -> Tensor:
    """At most ``NEAR`` rows, evenly spread: a large bank must not make every query dear."""
    return cells if len(cells) <= NEAR else cells[torch.linspace(0, len(cells) - 1, NEAR).long()]


def _clusters(cells: Tensor, weights: Tensor, count: int) -> Tensor:
    """[count, D] centres; none for a count of 1."""
    return kmeans(cells[None], weights[None], count)[0] if count > 1 else cells.new_zeros(0, cells.shape[1])


def _inner(shares: Tensor) -> Tensor:
    """Shares below one half become 0, since cells on a border belong to both sides; all stay where nothing else is
    there (a thing thinner than a cell, a predicted mask that is unsure)."""
    inner = torch.where(shares >= 0.5, shares, 0.0)
    return torch.where(inner.any(), inner, shares)
