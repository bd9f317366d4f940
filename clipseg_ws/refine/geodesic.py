"""Spread marked pixels over the picture: the nearest mark along paths that avoid changes of colour.

Papers: Bai and Sapiro, "Geodesic Matting", IJCV 2009; Lin et al., "ScribbleSup", CVPR 2016 (scribbles spread along like
colours). Distances are exact shortest paths (Dijkstra, scipy) on the eight neighbours of a smaller picture.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy  # its parts are imported on first use
import torch
import torch.nn.functional as F
from torch import Tensor

from clipseg_ws.pictures.colours import lab

COLOUR_NEIGHBOURS = 5  # seed pixels of a label that a pixel's colour is compared with
COLOUR_SAMPLES = 500  # seed pixels of a label at most
_STEPS = ((0, 1), (1, 0), (1, 1), (1, -1))  # (rows, columns): half of the eight neighbours, the graph has no direction


def geodesic_distances(
    seed: Tensor, image: Tensor, labels: int, *, max_side: int = 160, smooth: float = 1.0, base: float = 0.05
) -> Tensor:
    """Distance of every pixel to the nearest seed of every label.

    A step costs its length as a share of the longer side, times ``base`` plus the change of colour (RGB in [0, 1],
    largest channel) relative to the picture's mean change: crossing an edge costs more than a long way over plain
    ground.

    Args:
        seed: [H, W] int64 labels, -1 where there is none.
        image: [3, H, W] uint8, or floating point RGB in [0, 1].
        labels: number of labels, L.
        max_side: longer side of the working picture. smooth: width of the Gaussian in its pixels, before colours are
            compared.

    Returns:
        [L, H, W] float32 from 0; infinite for labels without a seed.
    """
    height, width = seed.shape
    factor = max(1.0, max(height, width) / max_side)
    small = (max(1, round(height / factor)), max(1, round(width / factor)))
    picture = image.float() / 255 if image.dtype == torch.uint8 else image.float()
    colours = F.interpolate(picture[None], size=small, mode="area")[0].cpu().numpy()  # [3, h, w]
    graph = _graph(scipy.ndimage.gaussian_filter(colours, (0, smooth, smooth)), base)
    rows, columns = (seed >= 0).nonzero().cpu().numpy().T
    values = seed[seed >= 0].cpu().numpy()
    nodes = np.minimum(rows * small[0] // height, small[0] - 1) * small[1] + columns * small[1] // width
    found = np.full((labels, small[0] * small[1]), np.inf, np.float32)
    for label in np.unique(values):
        sources = np.unique(nodes[values == label])
        found[label] = scipy.sparse.csgraph.dijkstra(graph, directed=False, indices=sources, min_only=True)
    maps = torch.from_numpy(found).view(labels, *small)
    known = torch.isfinite(maps).flatten(1).all(1)
    out = maps.new_full((labels, height, width), float("inf"))
    if known.any():
        out[known] = F.interpolate(maps[known][None], size=(height, width), mode="bilinear", align_corners=False)[0]
    return out.to(image.device)


def colour_distances(seed: Tensor, image: Tensor, labels: int, *, max_side: int = 160) -> Tensor:
    """Mean distance in CIELAB (0 to about 100 and more) to the nearest seed colours of every label.

    Arguments and result as in ``geodesic_distances``: [L, H, W] float32, infinite for labels without a seed.
    """
    height, width = seed.shape
    factor = max(1.0, max(height, width) / max_side)
    small = (max(1, round(height / factor)), max(1, round(width / factor)))
    picture = image.float() / 255 if image.dtype == torch.uint8 else image.float()
    full = lab(picture.flatten(1).t().cpu().numpy())  # [H*W, 3]
    asked = lab(F.interpolate(picture[None], size=small, mode="area")[0].flatten(1).t().cpu().numpy())  # [h*w, 3]
    values = seed.flatten().cpu().numpy()
    maps = torch.full((labels, *small), float("inf"))
    for label in range(labels):
        mine = full[values == label]
        if len(mine):
            mine = mine[:: -(-len(mine) // COLOUR_SAMPLES)]
            near, _ = scipy.spatial.cKDTree(mine).query(asked, k=list(range(1, min(COLOUR_NEIGHBOURS, len(mine)) + 1)))
            maps[label] = torch.from_numpy(near.mean(1)).view(small)
    known = torch.isfinite(maps).flatten(1).all(1)
    out = maps.new_full((labels, height, width), float("inf"))
    if known.any():
        out[known] = F.interpolate(maps[known][None], size=(height, width), mode="bilinear", align_corners=False)[0]
    return out.to(image.device)


def _graph(colours: np.ndarray, base: float) -> Any:
    """Neighbours of a picture [3, h, w] as a sparse matrix [h*w, h*w] of step costs."""
    height, width = colours.shape[1:]
    number = np.arange(height * width).reshape(height, width)
    starts, ends, changes, lengths = [], [], [], []
    for down, right in _STEPS:
        a = (slice(0, height - down), slice(max(0, -right), width - max(0, right)))
        b = (slice(down, height), slice(max(0, right), width - max(0, -right)))
        starts.append(number[a].ravel())
        ends.append(number[b].ravel())
        changes.append(np.abs(colours[(slice(None), *a)] - colours[(slice(None), *b)]).max(0).ravel())
        lengths.append(np.full(number[a].size, np.hypot(down, right)))
    change, length = np.concatenate(changes), np.concatenate(lengths)
    mean = max(float(change.mean()) if change.size else 0.0, 1e-6)
    costs = (base * length + change / mean) / max(height, width)
    size = height * width
    return scipy.sparse.coo_matrix((costs, (np.concatenate(starts), np.concatenate(ends))), shape=(size, size)).tocsr()
