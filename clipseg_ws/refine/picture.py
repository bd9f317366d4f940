"""The one door to all refiners that look at the picture: by name, only the channels that are present."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from clipseg_ws.refine import REFINERS
from clipseg_ws.refine.neighbours import check_inputs
from clipseg_ws.registry import Spec, checked_spec, parse_spec


def unrefined(scores: Tensor, image: Tensor) -> Tensor:
    """A copy of the scores; what the name "none" stands for."""
    return scores.clone()


def refine_picture(
    refiner: str | Spec,
    scores: Tensor,
    image: Tensor,
    *,
    channels: Tensor | None = None,
    max_side: int | None = None,
) -> Tensor:
    """Refine scores with the picture, image by image, so that a result never depends on its batch.

    Args:
        refiner: a name of ``REFINERS``, parameters in brackets: "pamr", "pamr(iterations=5, dilations=[8, 16])"; or
            its ``Spec``.
        scores: [B, C, H, W] floating point; classes, or background and classes ("crf" wants the background in).
        image: [B, 3, H, W] of the same size and device: uint8, or floating point RGB in [0, 1] (not CLIP-normalised).
        channels: bool [C] or [B, C], which channels to refine; None: those that are not zero everywhere. The others
            come back as they are (with "crf" they are no label the pixels could take).
        max_side: work on a picture whose longer side has at most so many pixels, enlarge the result; None: full size.

    Returns:
        [B, C, H, W] in the dtype of ``scores``.

    Raises:
        ValueError: unknown name or parameter, shapes that do not fit, a float picture outside [0, 1].
        ImportError: the refiner's extra is not installed.
    """
    spec = parse_spec(refiner, REFINERS, "refiner") if isinstance(refiner, str) else refiner
    spec = checked_spec(spec, REFINERS, "refiner")
    refine = partial(REFINERS[spec.name].load(), **dict(spec.parameters))
    check_inputs(scores, image, same_size=True)
    _check_range(image)
    chosen = _chosen_channels(scores, channels)
    small = _working_size(scores.shape[-2:], max_side)
    refined = scores.clone()
    for index, present in enumerate(chosen):
        if not present.any():
            continue
        part = _at_size(refine, scores[index : index + 1, present], image[index : index + 1], small)
        refined[index, present] = part[0].to(refined.dtype)
    return refined


def _at_size(refine: Callable[..., Tensor], scores: Tensor, image: Tensor, size: tuple[int, int] | None) -> Tensor:
    """Refined at the working size, enlarged again; ``size`` None: as they are."""
    if size is None:
        return refine(scores, image)
    return _resize(refine(_resize(scores, size), _resize(image, size)), scores.shape[-2:])


def _chosen_channels(scores: Tensor, channels: Tensor | None) -> Tensor:
    """bool [B, C] from None, [C] or [B, C]."""
    if channels is None:
        return (scores != 0).flatten(2).any(-1)
    if channels.dtype != torch.bool or tuple(channels.shape) not in (scores.shape[1:2], scores.shape[:2]):
        raise ValueError(
            f"channels are {channels.dtype} {tuple(channels.shape)}; allowed: bool [C] or [B, C], here "
            f"{list(scores.shape[1:2])} or {list(scores.shape[:2])}"
        )
    return channels.to(scores.device).expand(scores.shape[:2])


def _check_range(image: Tensor) -> None:
    if image.dtype == torch.uint8:
        return
    if not image.is_floating_point():
        raise ValueError(f"the picture has dtype {image.dtype}; allowed: uint8, or floating point RGB in [0, 1]")
    low, high = image.aminmax()
    if low < -1e-3 or high > 1 + 1e-3:
        raise ValueError(
            f"the picture's values run from {low:.3g} to {high:.3g}; allowed: uint8, or floating point RGB in [0, 1], "
            "e.g. bytes / 255 (not CLIP-normalised)"
        )


def _working_size(size: torch.Size, max_side: int | None) -> tuple[int, int] | None:
    """(h, w) with the longer side at ``max_side``; None where the picture is small enough."""
    if max_side is not None and max_side < 1:
        raise ValueError(f"max_side={max_side}; allowed: None or a number of pixels >= 1, e.g. 512")
    longest = max(size)
    if max_side is None or longest <= max_side:
        return None
    height, width = (max(1, round(side * max_side / longest)) for side in size)
    return height, width


def _resize(maps: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Bilinear, antialiased, in at least float32; a uint8 picture becomes RGB in [0, 1]."""
    if maps.dtype == torch.uint8:
        maps = maps.float() / 255
    maps = maps if maps.dtype == torch.float64 else maps.float()
    return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False, antialias=True)
