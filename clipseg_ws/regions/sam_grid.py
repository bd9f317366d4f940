"""Regions by SAM without any prompt of the user: a grid of points, masks that are sure and stable, no two alike.

Kirillov et al., "Segment Anything", ICCV 2023, arXiv 2304.02643, section "Segment Anything Mode": three masks a point;
kept are those whose expected quality is above ``pred_iou`` and whose stability (the overlap of the mask cut at logits
``offset`` above and below 0) is above ``stability``; then non-maximum suppression of their boxes at IoU ``nms``, the
best expected quality first. No crops. ``transformers``' pipeline "mask-generation" does the same (a test compares).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clipseg_ws.regions.region_set import RegionSet
from clipseg_ws.regions.sam_model import Sam, Seen, load_sam
from clipseg_ws.regions.working import working

CELLS = 2**26  # masks times pixels that are enlarged together: 256 MiB in float32
BATCH = 64  # points that are decoded together


def automatic(
    image: NDArray[np.uint8], name: str = "", *, repo: str = "", points: int = 32, pred_iou: float = 0.88,
    stability: float = 0.95, offset: float = 1.0, nms: float = 0.7, min_area: int = 0, max_side: int = 1024,
    device: str = "cpu", offline: bool = False,
) -> RegionSet:  # fmt: skip
    """All that SAM finds in a picture [H, W, 3] uint8, the best first; regions overlap. ``name`` is not read.

    Args:
        repo: "facebook/sam-vit-base", or a folder. points: along a side of the grid.
        pred_iou, stability, offset, nms: see the module; those of the paper. min_area: pixels of the smallest mask.
        max_side: a larger picture is cut at this longer side (the network sees no more of it), see ``grow``.

    Raises:
        ValueError: a parameter out of its range. UnsupportedBackbone, WeightsNotFound: see ``load_sam``.
    """
    if points < 1 or not all(0 <= v <= 1 for v in (pred_iou, stability, nms)) or offset < 0 or min_area < 0:
        raise ValueError(
            f"{points=}, {pred_iou=}, {stability=}, {nms=}, {offset=}, {min_area=}; allowed: points from 1, shares in "
            "[0, 1], the others from 0, e.g. points=32, pred_iou=0.88"
        )
    sam, small = load_sam(repo, device, offline), working(image, max_side)
    found = grid_regions(
        sam, small, points=points, pred_iou=pred_iou, stability=stability, offset=offset, nms=nms, min_area=min_area
    )
    return found.resized((image.shape[0], image.shape[1]))


def grid_regions(
    sam: Sam, image: NDArray[np.uint8], *, points: int, pred_iou: float, stability: float, offset: float, nms: float,
    min_area: int = 0,
) -> RegionSet:  # fmt: skip
    """See ``automatic``, with the model itself."""
    from torchvision.ops import nms as suppressed

    seen = sam.embed(image)
    grid = point_grid(points) * torch.tensor([seen.size[1], seen.size[0]])
    step = max(1, min(BATCH, CELLS // (3 * seen.size[0] * seen.size[1])))
    parts = [_sure(sam, seen, grid[i : i + step], pred_iou, stability, offset) for i in range(0, len(grid), step)]
    sets = [regions for regions, _ in parts]
    quality = torch.cat([scores for _, scores in parts])
    boxes = torch.from_numpy(np.concatenate([regions.boxes for regions in sets])).float()
    boxes[:, 2:] -= 1  # the paper's code measures a box from its first to its last pixel
    kept = suppressed(boxes, quality, nms).numpy()
    areas = np.concatenate([regions.areas for regions in sets])
    return _merged(sets, quality.numpy()).select(kept[areas[kept] >= min_area])


def point_grid(count: int) -> Tensor:
    """[count * count, 2] x, y in (0, 1), row by row, in the middle of equal cells."""
    middle = 1 / (2 * count)
    side = torch.linspace(middle, 1 - middle, count)
    y, x = torch.meshgrid(side, side, indexing="ij")
    return torch.stack([x, y], -1).reshape(-1, 2)


def stability_of(logits: Tensor, offset: float) -> Tensor:
    """[...] in [0, 1] of masks [..., H, W] as logits: pixels above ``offset`` by those above minus it; 0 for none."""
    inner, outer = ((logits > cut).flatten(-2).sum(-1).float() for cut in (offset, -offset))
    return inner / outer.clamp_min(1)


def _sure(
    sam: Sam, seen: Seen, points: Tensor, pred_iou: float, stability: float, offset: float
) -> tuple[RegionSet, Tensor]:
    """What passes both limits, and its expected quality; a mask without a pixel does not."""
    low, quality = sam.decode(seen, points=points[:, None])
    quality = quality.flatten().cpu()
    good = quality > pred_iou if pred_iou > 0 else torch.ones_like(quality, dtype=torch.bool)
    logits = sam.enlarge(seen, low).flatten(0, 1)[good.to(low.device)]
    stable = stability_of(logits, offset) > stability if stability > 0 else torch.ones(len(logits), dtype=torch.bool)
    masks = (logits > 0).cpu()
    filled = masks.flatten(1).any(1)
    kept = stable.cpu() & filled
    scores = quality[good][kept]
    return RegionSet.from_masks(masks[kept].numpy(), seen.size, scores.numpy()), scores


def _merged(sets: list[RegionSet], scores: NDArray[np.float32]) -> RegionSet:
    """Sets of one picture as one."""
    shift = np.cumsum([0, *(len(s.starts) for s in sets)])
    offsets = np.concatenate([s.offsets[:-1] + n for s, n in zip(sets, shift, strict=False)] + [shift[-1:]])
    starts, lengths = (np.concatenate([getattr(s, name) for s in sets]) for name in ("starts", "lengths"))
    return RegionSet(sets[0].size, starts, lengths, offsets.astype(np.int64), scores.astype(np.float32))
