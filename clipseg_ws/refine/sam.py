"""Crisp masks by SAM: every part of every class prompts its decoder by box, peak and rough mask.

Kirillov et al., ICCV 2023, arXiv 2304.02643; prompts as in Trident (Shi et al., ICCV 2025, arXiv 2411.09219), whose
smallest part is 225 pixels. Points and scribbles of the user prompt in place of the peak. Of the masks that come back
the one that agrees best with the part is taken; where none agrees by ``agreement`` (IoU) the part stays as it was.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from clipseg_ws.regions.sam_model import Sam, Seen, load_sam

MOST_MARKS = 8  # marked pixels of a part that prompt


def sam_masks(
    scores: Tensor, image: Tensor, *, repo: str = "", parts: int = 20, min_area: int = 225, agreement: float = 0.5
) -> Tensor:
    """Scores whose arg-max follows SAM's masks.

    Args:
        scores: [B, 1+K, H, W] in [0, 1], background first; all zero there: nothing competes as background, and what no
            mask holds keeps its scores.
        image: [B, 3, H, W] uint8, or RGB in [0, 1].
        repo: "facebook/sam-vit-base", or a folder. parts: largest connected parts of a class that prompt.
        min_area: pixels of the smallest part that does. agreement: least IoU of a mask with its part, in [0, 1].

    Returns:
        [B, 1+K, H, W] in [0, 1] in the dtype of ``scores``.

    Raises:
        ValueError: a parameter out of its range, no model named. See ``load_sam`` besides.
    """
    if parts < 1 or min_area < 1 or not 0 <= agreement <= 1:
        raise ValueError(f"{parts=}, {min_area=}, {agreement=}; allowed: from 1, from 1 and [0, 1], e.g. 20, 225, 0.5")
    sam = load_sam(repo, str(scores.device))
    pictures = image if image.dtype == torch.uint8 else (image * 255).round().to(torch.uint8)
    rows = [
        _refined(sam, one.float(), np.ascontiguousarray(p.permute(1, 2, 0).cpu().numpy()), parts, min_area, agreement)
        for one, p in zip(scores, pictures, strict=True)
    ]
    return torch.stack(rows).to(scores.dtype)


def _refined(
    sam: Sam, scores: Tensor, picture: NDArray[np.uint8], parts: int, min_area: int, agreement: float
) -> Tensor:
    """One picture's scores [1+K, H, W]."""
    labels = scores.argmax(0).cpu().numpy()
    found = [k for k in range(1, len(scores)) if (labels == k).any()]
    if not found:
        return scores
    seen = sam.embed(picture)
    inside = torch.zeros_like(scores)  # how surely a mask of the class holds the pixel
    for k in found:
        rough = share_of(scores, k)
        small = np.ones_like(labels, bool)
        for part in connected_parts(labels == k, parts, min_area, fixed(rough).numpy()):
            mask = part_mask(sam, seen, rough, part, agreement)
            small[part] = False
            if mask is not None:
                inside[k] = torch.maximum(inside[k], mask.to(inside.device))
            else:
                inside[k] = torch.where(torch.from_numpy(part).to(inside.device), rough, inside[k])
        left = torch.from_numpy(small & (labels == k)).to(inside.device)
        inside[k] = torch.where(left & (inside[k] < 0.5), rough, inside[k])
    return decided(scores, inside)


def share_of(scores: Tensor, k: int) -> Tensor:
    """[H, W] in [0, 1]: channel k against the best of the others; one half and more where it wins."""
    others = torch.cat([scores[:k], scores[k + 1 :]]).amax(0)
    return scores[k] / (scores[k] + others).clamp_min(1e-12)


def decided(scores: Tensor, inside: Tensor) -> Tensor:
    """[1+K, H, W] from the masks' sureness ``inside`` [1+K, H, W], row 0 unused.

    A pixel is a class's where some mask holds it by more than one half; of several classes it is the one that is sure
    and had the higher scores there.
    """
    wish = inside[1:] * scores[1:].clamp_min(1e-3)
    most = inside[1:].amax(0)
    classes = most * wish / wish.amax(0).clamp_min(1e-12)
    if scores[0].any():
        return torch.cat([(1 - most)[None], classes])
    return torch.where(most > 0.5, torch.cat([torch.zeros_like(most)[None], classes]), scores)


def fixed(rough: Tensor) -> Tensor:
    """[H, W] bool on the CPU: pixels that the user marked, where nothing else is possible."""
    return (rough >= 1 - 1e-6).cpu()


def connected_parts(
    mask: NDArray[np.bool_], count: int, min_area: int, marked: NDArray[np.bool_]
) -> Iterator[NDArray[np.bool_]]:
    """The largest connected parts of a mask [H, W], the largest first; a part that holds a ``marked`` pixel [H, W] may
    be smaller than ``min_area``."""
    numbers, total = ndimage.label(mask)
    areas = np.bincount(numbers.ravel(), minlength=total + 1)[1:]
    for number in np.argsort(-areas, kind="stable")[:count]:
        part = numbers == number + 1
        if areas[number] >= min_area or (part & marked).any():
            yield part


def part_mask(sam: Sam, seen: Seen, rough: Tensor, part: NDArray[np.bool_], agreement: float) -> Tensor | None:
    """[H, W] in [0, 1], SAM's mask that agrees best with a part; None where none agrees enough.

    Args:
        rough: [H, W] in [0, 1], how much the class is there. part: [H, W] bool.
    """
    rows, columns = np.nonzero(part.any(1))[0], np.nonzero(part.any(0))[0]
    box = torch.tensor([[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]], dtype=torch.float32)
    inner = torch.from_numpy(part)
    deep = torch.from_numpy(ndimage.distance_transform_edt(np.pad(part, 1))[1:-1, 1:-1].astype(np.float32))
    peak = int((rough.cpu() * inner * deep.sqrt()).argmax())  # high, and not on the border
    point = torch.tensor([[[peak % part.shape[1] + 0.5, peak // part.shape[1] + 0.5]]])
    marks = (fixed(rough) & inner).nonzero()
    if 0 < len(marks) < inner.sum():  # a click of the user says more than the peak
        kept = marks[torch.linspace(0, len(marks) - 1, min(len(marks), MOST_MARKS)).long()]
        point = kept.flip(1).float()[None] + 0.5
    low, _ = sam.decode(seen, points=point, boxes=box, mask=rough.cpu() * inner)
    masks = sam.enlarge(seen, low)[0].cpu()
    held = masks > 0
    union = (held | inner).flatten(1).sum(1).clamp_min(1)
    iou = (held & inner).flatten(1).sum(1) / union
    best = int(iou.argmax())
    return masks[best].sigmoid() if iou[best] >= agreement else None
