"""The last block limited to regions: CorrCLIP's attention and TextRegion's tokens.

CorrCLIP (Zhang et al., ICCV 2025, arXiv 2411.10086): regions whose mean features in a second model are alike are merged
(DBSCAN, eps 0.2, least number 1: chains of regions at a cosine distance of at most eps); a patch attends to patches of
its merged region only, by softmax(4 S), S the cosine of the second model's features; added are 1.0 times the same
attention over the values of the earlier blocks' mean, and 0.5 times a class token of the region, whose attention is
limited to it. Residual stream and MLP are dropped. In the paper S is of DINO's queries and keys, here of what the
second model gives out.

TextRegion (Xiao et al., TMLR 2025, arXiv 2505.23769): a token a region, the mean of the values under its soft mask;
patches that are hardly more alike to their own regions than to the others ("global" ones, difference below 0.07) are
left out. The paper joins several resolutions; here there is one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from clipseg_ws.backbones.protocol import Backbone
from clipseg_ws.regions.region_set import RegionSet
from clipseg_ws.structures import Tokens


def cell_regions(regions: RegionSet, grid: tuple[int, int]) -> Tensor:
    """[h * w] int64: the region that has most of each cell, -1 where most of it belongs to none."""
    partition = regions.partition().astype(np.int64) + 1
    height, width = regions.size
    cells = (np.arange(height) * grid[0] // height)[:, None] * grid[1] + np.arange(width) * grid[1] // width
    count = len(regions) + 1
    codes, pixels = np.unique(cells.ravel() * count + partition.ravel(), return_counts=True)
    found = np.zeros(grid[0] * grid[1], np.int64)
    order = np.argsort(pixels, kind="stable")  # the most last
    found[codes[order] // count] = codes[order] % count
    return torch.from_numpy(found - 1)


def merged(features: Tensor, owners: Tensor, eps: float = 0.2) -> Tensor:
    """Regions whose mean features are alike become one.

    Args:
        features: [n, C] of the cells. owners: [n] int64 region of each, -1 for the rest, which counts as one region.
        eps: largest cosine distance of two regions that are joined; chains count.

    Returns [n] int64 numbers from 0.
    """
    _, own = torch.unique(owners.to(features.device), return_inverse=True)
    count = int(own.max()) + 1
    unit = F.normalize(features.float(), dim=-1)
    means = F.normalize(unit.new_zeros(count, unit.shape[1]).index_add_(0, own, unit), dim=-1)
    near = (1 - means @ means.t() <= eps).cpu().numpy()
    return torch.from_numpy(connected_components(near, directed=False)[1]).long().to(own.device)[own]


def region_attention(features: Tensor, owners: Tensor, *, sharpness: float = 4.0, eps: float = 0.2) -> Tensor:
    """softmax(sharpness S) inside merged regions, 0 elsewhere.

    Args:
        features: [B, C, h', w'] of the second model. owners: [B, h' w'] int64 as in ``merged``.

    Returns [B, n, n] float32, rows adding up to 1.
    """
    cells = F.normalize(features.float().flatten(2), dim=1).transpose(1, 2)  # [B, n, C]
    groups = torch.stack([merged(f, o, eps) for f, o in zip(cells, owners, strict=True)])
    outside = groups[:, :, None] != groups[:, None, :]
    return (sharpness * cells @ cells.transpose(1, 2)).masked_fill(outside, -math.inf).softmax(-1)


def corrclip_embeddings(
    backbone: Backbone, tokens: Tokens, features: Tensor, regions: Sequence[RegionSet], *, eps: float = 0.2,
    sharpness: float = 4.0, low: float = 1.0, token: float = 0.5,
) -> Tensor:  # fmt: skip
    """Unit patch embeddings [B, h', w', E] on the second model's grid, see the module.

    Args:
        tokens: with the ``layers`` whose mean is the low-level part. features: [B, C, h', w'] of the second model.
        regions: of each picture. eps, sharpness, low, token: the paper's 0.2, 4, 1.0 and 0.5.

    Raises:
        ValueError: another number of region sets than pictures.
    """
    if len(regions) != len(features):
        raise ValueError(f"{len(regions)} sets of regions for {len(features)} pictures; one each is needed")
    last, size = backbone.last_block, (features.shape[2], features.shape[3])
    owners = torch.stack([cell_regions(r, size) for r in regions]).to(features.device)
    attention = region_attention(features, owners, sharpness=sharpness, eps=eps)
    q, k, v = last.qkv(last.ln_1(tokens.last_input), tokens.grid)
    values = _on_grid(v[:, :, 1:], tokens.grid, size)
    mixed = attention[:, None].to(v.dtype) @ values
    out = last.project(mixed)
    if low and tokens.layers:
        earlier = torch.stack([x for x in tokens.layers.values()]).mean(0)
        with_class = torch.cat([tokens.last_input[:, :1], earlier.to(tokens.last_input.dtype)], 1)
        _, _, below = last.qkv(last.ln_1(with_class), tokens.grid)
        out = out + low * last.project(attention[:, None].to(v.dtype) @ _on_grid(below[:, :, 1:], tokens.grid, size))
    if token:
        keys = _on_grid(k[:, :, 1:], tokens.grid, size)
        out = out + token * last.project(region_tokens(q[:, :, :1], keys, values, owners))
    return torch.unflatten(F.normalize(last.embed(out), dim=-1), 1, size)


def region_tokens(query: Tensor, keys: Tensor, values: Tensor, owners: Tensor) -> Tensor:
    """What a query would gather from each cell's own region, at every cell.

    Args:
        query: [B, heads, 1, d]. keys, values: [B, heads, n, d]. owners: [B, n] int64 region of each cell.

    Returns [B, heads, n, d]: cells of one region hold the same, softmax(query keys / sqrt d) values over the region.
    """
    logits = (query * query.shape[-1] ** -0.5) @ keys.transpose(-2, -1)  # [B, heads, 1, n]
    weights = (logits.float() - logits.float().amax(-1, keepdim=True)).exp()[:, :, 0]  # [B, heads, n]
    gathered = []
    for weight, value, own in zip(weights, values, owners, strict=True):
        _, number = own.unique(return_inverse=True)
        count = int(number.max()) + 1
        top = weight.new_zeros(len(weight), count, value.shape[-1])
        top = top.index_add_(1, number, weight[..., None] * value.float())
        low = weight.new_zeros(len(weight), count).index_add_(1, number, weight)
        gathered.append((top / low.clamp_min(1e-30)[..., None])[:, number])
    return torch.stack(gathered).to(values.dtype)


def textregion_embeddings(
    backbone: Backbone, tokens: Tokens, regions: Sequence[RegionSet], *, difference: float = 0.07
) -> Tensor:
    """Unit patch embeddings [B, h, w, E]: every patch holds the tokens of the regions that cover it.

    Args:
        regions: of each picture. difference: least likeness by which a patch fits its own regions better than others,
            0.07 as in the paper; below it the patch counts in no token. A patch of no region keeps its own value.
    """
    last, grid = backbone.last_block, tokens.grid
    _, _, v = last.qkv(last.ln_1(tokens.last_input), grid)
    v = v[:, :, 1:]
    own = F.normalize(last.embed(last.project(v)).float(), dim=-1)  # [B, N, E]
    rows = []
    for row, picture in enumerate(regions):
        share = torch.from_numpy(picture.coverage(grid)).to(v.device)  # [n, N]
        if not len(share):
            rows.append(own[row])
            continue
        weights = share * local_patches(v[row].transpose(0, 1).flatten(1), share, difference)
        weights = torch.where(weights.sum(1, keepdim=True) > 0, weights, share)  # nothing is left: all that there was
        mean = weights / weights.sum(1, keepdim=True).clamp_min(1e-12)
        pooled = mean.to(v.dtype)[None] @ v[row]  # [heads, n, d]
        token = F.normalize(last.embed(last.project(pooled[None])).float(), dim=-1)[0]  # [n, E]
        spread = share.t() @ token + (1 - share.sum(0)).clamp_min(0)[:, None] * own[row]
        rows.append(F.normalize(spread, dim=-1))
    return torch.unflatten(torch.stack(rows), 1, grid).to(tokens.last_input.dtype)


def local_patches(values: Tensor, share: Tensor, difference: float = 0.07) -> Tensor:
    """[N] 1 for patches that fit their own regions better than the others by ``difference``, else 0.

    Args:
        values: [N, D] of the patches. share: [n, N] of each patch in each region.

    A patch's likeness to a region is its mean cosine to the region's patches; compared are the means over the regions
    that hold the patch and over those that do not. A patch without one of the two stays.
    """
    inside = (share > 0).float()
    unit = F.normalize(values.float(), dim=-1)
    alike = unit @ (inside @ unit).t() / inside.sum(1).clamp_min(1)  # [N, n]
    held, others = inside.t(), 1 - inside.t()
    within = (alike * held).sum(1) / held.sum(1).clamp_min(1)
    beyond = (alike * others).sum(1) / others.sum(1).clamp_min(1)
    free = (held.sum(1) == 0) | (others.sum(1) == 0)
    return ((within - beyond >= difference) | free).float()


def _on_grid(x: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """[B, heads, N, d] bilinearly on another grid: [B, heads, n, d]."""
    if grid == size:
        return x
    image = torch.unflatten(x.transpose(2, 3).flatten(1, 2), 2, grid)
    image = F.interpolate(image, size=size, mode="bilinear", align_corners=False)
    return torch.unflatten(image.flatten(2), 1, (x.shape[1], x.shape[3])).transpose(2, 3)
