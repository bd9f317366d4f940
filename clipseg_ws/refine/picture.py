"""The one door to all refiners that look at the picture: by name, only the channels that are present."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from clipseg_ws.refine import REFINERS
from clipseg_ws.refine.neighbours import check_inputs
from clipseg_ws.refine.working import resized, working_size
from clipseg_ws.registry import Spec, checked_spec, parse_spec

Run = Callable[[Tensor, Tensor], Tensor]  # (scores, image) -> scores


def unrefined(scores: Tensor, image: Tensor) -> Tensor:
    """A copy of the scores; what the name "none" stands for."""
    return scores.clone()


def refine_picture(
    refiner: str | Spec, scores: Tensor, image: Tensor, *, channels: Tensor | None = None, max_side: int | None = None
) -> Tensor:
    """Refine scores with the pictures of a batch; a result does not depend on which pictures come together.

    Args:
        refiner: a name of ``REFINERS``, parameters in brackets: "pamr", "pamr(iterations=5, dilations=[8, 16])"; or
            its ``Spec``.
        scores: [B, C, H, W] floating point; classes, or background and classes ("crf" wants the background in,
            "sam" wants it first).
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
    run, parameters = REFINERS[spec.name].load(), dict(spec.parameters)
    check_inputs(scores, image, same_size=True)
    _check_range(image)
    small = working_size(scores.shape[-2:], max_side)
    whole = partial(_sized, partial(run, **parameters), small)
    reads = REFINERS[spec.name].about.get("channels")
    if reads == "all":
        return whole(scores, image).to(scores.dtype)
    if reads == "together":
        return _one_by_one(whole, scores, image, _chosen_channels(scores, channels))
    if channels is None:
        return whole(scores, image).to(scores.dtype)
    return _some_channels(whole, scores, image, _chosen_channels(scores, channels))


def _sized(run: Run, small: tuple[int, int] | None, scores: Tensor, image: Tensor) -> Tensor:
    """The refiner at full size, or at a smaller one and enlarged."""
    if small is None:
        return run(scores, image)
    return resized(run(resized(scores, small), resized(image, small)), scores.shape[-2:])


def _one_by_one(run: Run, scores: Tensor, image: Tensor, chosen: Tensor) -> Tensor:
    """A refiner whose channels compete: every picture with its own ones."""
    refined = scores.clone()
    for index, present in enumerate(chosen):
        if present.any():
            part = run(scores[index : index + 1, present], image[index : index + 1])
            refined[index, present] = part[0].to(refined.dtype)
    return refined


def _some_channels(run: Run, scores: Tensor, image: Tensor, chosen: Tensor) -> Tensor:
    """A refiner that treats every channel alone: those that any picture wants, kept where the picture wants them."""
    index = chosen.any(0).nonzero().flatten()
    part = torch.where(chosen[:, index, None, None], run(scores[:, index], image).to(scores.dtype), scores[:, index])
    return scores.index_copy(1, index, part)


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
