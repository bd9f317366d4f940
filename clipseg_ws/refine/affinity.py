"""Class-aware attention affinity (CLIP-ES, Lin et al., CVPR 2023, arXiv 2212.09506).

The reference builds M = (T + T^t) / 2 from the Sinkhorn-normalised attention T, squares it and multiplies it with the
map. Here T = diag(r) A diag(c) is never made: two scaling vectors and matrix-vector products give the same numbers.
"""

from __future__ import annotations

import numpy as np
import scipy  # its parts are imported on first use
import torch
from torch import Tensor

from clipseg_ws.activations.gradcam import min_max

TINY = 1e-30  # a patch that nothing attends to gives and gets nothing, not infinity
_EIGHT_NEIGHBOURS = np.stack([np.zeros((3, 3)), np.ones((3, 3)), np.zeros((3, 3))])  # within a map, not across maps


def class_aware_affinity(
    maps: Tensor,
    attention: Tensor,
    *,
    threshold: float = 0.4,
    sinkhorn_iterations: int = 3,
    exclude_last: bool = False,
) -> Tensor:
    """Spread every map along the attention, from the cells inside its own boxes.

    Args:
        maps: [B, K, h, w] in [0, 1]; an all-zero map stays zero.
        attention: [B, N, N] non-negative, N = h*w.
        threshold: share of the map's maximum above which cells form the regions that are boxed.
        sinkhorn_iterations: alternating normalisations, columns first.
        exclude_last: reproduce the reference's box, which never holds the last row and column.

    Returns:
        [B, K, h, w] float32 in [0, 1].

    Raises:
        ValueError: the attention does not fit the maps.
    """
    batch, _, height, width = maps.shape
    if attention.shape != (batch, height * width, height * width):
        raise ValueError(
            f"attention has shape {tuple(attention.shape)}, maps {tuple(maps.shape)}; [B, h*w, h*w] is needed, "
            f"here [{batch}, {height * width}, {height * width}]"
        )
    sources = (maps.float() * box_mask(maps, threshold, exclude_last=exclude_last)).flatten(2)
    spread = apply_affinity(attention, sources.transpose(1, 2), sinkhorn_iterations).transpose(1, 2)
    return torch.unflatten(min_max(spread), -1, (height, width))  # [B, K, N] -> [B, K, h, w]


def apply_affinity(attention: Tensor, vectors: Tensor, sinkhorn_iterations: int = 3) -> Tensor:
    """M (M v) with M = (T + T^t) / 2 and T the attention after Sinkhorn: [B, N, N], [B, N, K] -> [B, N, K] float32."""
    a = attention.float()
    rows, columns = sinkhorn(a, sinkhorn_iterations)
    for _ in range(2):
        forward = rows * (a @ (columns * vectors))
        backward = columns * (a.transpose(1, 2) @ (rows * vectors))
        vectors = (forward + backward) / 2
    return vectors


def sinkhorn(attention: Tensor, iterations: int = 3) -> tuple[Tensor, Tensor]:
    """Row and column scalings r, c, each [B, N, 1]: diag(r) A diag(c) after dividing by columns, then rows, n times."""
    rows = attention.new_ones(attention.shape[0], attention.shape[1], 1)
    columns = rows
    for _ in range(iterations):
        columns = 1 / (attention.transpose(1, 2) @ rows).clamp_min(TINY)
        rows = 1 / (attention @ columns).clamp_min(TINY)
    return rows, columns


def box_mask(maps: Tensor, threshold: float = 0.4, *, exclude_last: bool = False) -> Tensor:
    """Union of the bounding boxes of all 8-connected regions above the threshold.

    Args:
        maps: [B, K, h, w] in [0, 1]. threshold: share of each map's maximum, applied on the reference's 8-bit scale.
        exclude_last: end every box before the last row and column, as the reference does; a picture that is one patch
            high or wide keeps its only row or column.

    Returns:
        [B, K, h, w] float32, 1 inside. A map without a region has an empty mask.
    """
    levels = (maps.float() * 255).clamp(0, 255).to(torch.uint8)  # truncates
    limits = (levels.amax((-2, -1), keepdim=True).float() * threshold).to(torch.uint8)
    regions = (levels > limits).flatten(0, 1).cpu().numpy()  # [B*K, h, w]
    mask = np.zeros(regions.shape, np.float32)
    labelled, _ = scipy.ndimage.label(regions, structure=_EIGHT_NEIGHBOURS)
    for box in scipy.ndimage.find_objects(labelled):
        index, ys, xs = box
        if exclude_last:
            ys = slice(ys.start, min(ys.stop, max(regions.shape[1] - 1, 1)))
            xs = slice(xs.start, min(xs.stop, max(regions.shape[2] - 1, 1)))
        mask[index, ys, xs] = 1
    return torch.unflatten(torch.from_numpy(mask).to(maps.device), 0, maps.shape[:2])
