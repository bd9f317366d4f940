"""The weighted sum of losses that one batch of scenes and words gives (the losses themselves: ``losses.py``)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from clipseg_ws.embedded.losses import (
    Walk,
    activation_maps,
    boxed,
    contrast,
    map_loss,
    presence,
    region_text,
    same_region,
    spread,
    text_walk,
    vision_walk,
)
from clipseg_ws.embedded.nano.data import Batch
from clipseg_ws.embedded.nano.recipe import Weights
from clipseg_ws.embedded.nano.scenes import KINDS


@dataclass(frozen=True, eq=False)
class Prepared:
    """Data of one step: pictures, label shares [B, N, 1+K], tags bool [B, K], token rows [T + B, context] (words, then
    captions), and how many of the T words are negatives (the last ones)."""

    batch: Batch
    shares: torch.Tensor
    tags: torch.Tensor
    tokens: torch.Tensor
    negatives: int


@dataclass(frozen=True, eq=False)
class _Truth:
    """What the scenes say: label shares [B, N, 1+K], tags bool [B, K], one-hot ground [B, T-K] over the other words."""

    shares: torch.Tensor
    tags: torch.Tensor
    ground: torch.Tensor

    def patches(self) -> torch.Tensor:
        """Target word of every patch [B, N, T], rows sum to 1."""
        return torch.cat([self.shares[..., 1:], self.shares[..., :1] * self.ground[:, None]], dim=-1)

    def pictures(self) -> torch.Tensor:
        """Target words of every picture [B, T], rows sum to 1: things 0.7 together, the ground the rest."""
        named = self.tags / self.tags.sum(1, keepdim=True).clamp(min=1)
        return torch.cat([0.7 * named, (1 - 0.7 * named.sum(1, keepdim=True)) * self.ground], dim=-1)

    def same(self) -> torch.Tensor:
        """bool [B, B]: pictures of the same things on the same ground."""
        content = torch.cat([self.tags.float(), self.ground], dim=-1)
        return (content[:, None] == content[None]).all(-1)


def sum_over(images: tuple[torch.Tensor, ...], loss: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """The same loss of several image embeddings, summed."""
    return torch.stack([loss(image) for image in images]).sum()


def objective(
    model: Any, pixels: torch.Tensor, data: Prepared, weights: Weights, attention_blocks: int, rng: np.random.Generator
) -> dict[str, torch.Tensor]:
    """The weighted losses by name; pixels [B, 3, S, S] normalised, on the model's device."""
    device = pixels.device
    embeddings = text_walk(model, data.tokens.to(device))
    texts, captions = embeddings[: -len(pixels)], embeddings[-len(pixels) :]  # [T, E], [B, E]
    walk = vision_walk(model, pixels, attention_blocks)
    scale = model.logit_scale.exp()
    ground = torch.zeros(len(pixels), len(texts) - len(KINDS), device=device)
    ground[torch.arange(len(pixels), device=device), data.batch.grounds.to(device)] = 1.0
    truth = _Truth(data.shares.to(device), data.tags.to(device), ground)
    whole, same, inside = truth.pictures(), truth.same(), 1 - truth.shares[..., 0]
    both = (walk.cls, walk.pooled)
    result = {
        "contrast": weights.contrast * sum_over(both, lambda x: contrast(x, captions, scale, same)),
        "presence": weights.presence * sum_over(both, lambda x: presence(x, texts, scale, whole)),
        "region": weights.region * region_text(walk.values, texts, scale, truth.patches(), inside),
        "affinity": weights.affinity * same_region(walk.attention, truth.shares),
    }
    if bool(truth.tags.any()):
        result |= _map_losses(walk, texts, scale, truth, data.negatives, weights, rng)
    return result


def _map_losses(
    walk: Walk,
    texts: torch.Tensor,
    scale: torch.Tensor,
    truth: _Truth,
    negatives: int,
    weights: Weights,
    rng: np.random.Generator,
) -> dict[str, torch.Tensor]:
    """Losses of the activation map of one random class per picture, and of that map spread along the attention."""
    tags, shares = truth.tags, truth.shares
    has, kinds = tags.any(1), len(KINDS)
    chosen = torch.from_numpy(rng.random(tuple(tags.shape))).to(tags.device).masked_fill(~tags, -1).argmax(1)  # [B]
    full = torch.from_numpy(rng.random(len(tags)) < 0.4).to(tags.device)[:, None]  # all names compete, or the tags
    allowed = torch.zeros(len(tags), len(texts), dtype=torch.bool, device=tags.device)
    allowed[:, :kinds] = tags | full
    allowed[:, kinds : len(texts) - negatives] = True  # the grounds; the negatives stay out
    maps = activation_maps(walk, texts, scale, allowed, chosen)
    share = shares[..., 1:].gather(2, chosen[:, None, None].expand(-1, shares.shape[1], 1))[..., 0]  # [B, N]
    result = {"cam": weights.cam * map_loss(maps[has], share[has])}
    if weights.refined:
        seeds = maps if weights.flow else maps.detach()
        seeds = boxed(seeds, walk.grid) if weights.boxes else seeds
        result["refined"] = weights.refined * map_loss(spread(walk.attention, seeds)[has], share[has])
    return result
