"""Hundreds of names at once: the best words of every patch first, pixels only for those.

A score for each of 1,000 words at every pixel of a photo takes gigabytes. Patches are a few hundred times fewer: there
every word is scored, the words that are among the best three nowhere are folded into one "rest" that keeps their share
of the softmax, and only the others are enlarged to pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from clipseg_ws.activations.textscores import class_probabilities
from clipseg_ws.pictures.picture import Picture
from clipseg_ws.pictures.sizes import resize_maps
from clipseg_ws.pictures.windows import stitch
from clipseg_ws.stages.encoder import Encoder
from clipseg_ws.stages.windows import cut, enlarged, patch_logits
from clipseg_ws.structures import TextEmbeddings

Refine = Callable[[Tensor], Tensor]  # [1, M+1, H, W] logits -> the same
NEAR = 3  # best words of every patch that are kept: between patches a second best may win
NEAR_WEIGHT = 2**20  # a win counts more than any number of second places
WORD_CELLS = 2**26  # words times pixels of the largest tensor: 256 MiB in float32


@dataclass(frozen=True, eq=False)
class WordLogits:
    """Logits of the words that matter.

    Attributes:
        logits: [1, M+1, H', W'] cosines; the last channel is the rest. words: [M] rows of the text.
        peaks: [T] the largest probability of every word at any patch.
    """

    logits: Tensor
    words: Tensor
    peaks: Tensor


def most_pictures(pictures: Sequence[Picture], words: int) -> int:
    """Pictures of one grid of which all words at all pixels keep to ``WORD_CELLS``; 0 where one is too much already."""
    return WORD_CELLS // (words * max(map(_cells, pictures)))


def _cells(picture: Picture) -> int:
    """Pixels of the picture, at its own or at network size, whichever is larger."""
    (height, width), *_ = picture.grid
    return max(picture.size[0] * picture.size[1], height * width)


def short_word_logits(encoder: Encoder, picture: Picture, text: Tensor, scale: float) -> WordLogits:
    """The words among the best of some patch of some window (at most what ``WORD_CELLS`` allows), enlarged, stitched.

    Args:
        text: [T, E] unit vectors. scale: factor of the cosine in the softmax; the rest is exact for it at the patches.
    """
    windows = cut(encoder, [picture])
    batches = list(patch_logits(encoder, windows, text))  # [B, T, h, w] each: patches only
    won = torch.zeros(text.shape[0], dtype=torch.int64, device=batches[0][0].device)
    peaks = torch.zeros(text.shape[0], device=won.device)
    for logits, _ in batches:
        near = logits.topk(min(NEAR, logits.shape[1]), dim=1).indices  # [B, 3, h, w], best first
        won += NEAR_WEIGHT * torch.bincount(near[:, 0].flatten(), minlength=len(won))
        won += torch.bincount(near.flatten(), minlength=len(won))
        peaks = torch.maximum(peaks, (scale * logits).softmax(1).amax((0, 2, 3)))
    most = max(1, WORD_CELLS // _cells(picture) - 1)
    words = won.topk(min(int((won > 0).sum()), most)).indices.sort().values
    dropped = torch.ones(len(won), dtype=torch.bool, device=won.device)
    dropped[words] = False

    def shortened(logits: Tensor) -> Tensor:
        """[B, T, h, w] -> [B, M+1, h, w]."""
        rest = (scale * logits[:, dropped]).logsumexp(1, keepdim=True) / scale
        return torch.cat([logits[:, words], rest.clamp_min(-1e4)], 1)  # nothing dropped: -inf would spread

    small = ((shortened(logits), enlarge) for logits, enlarge in batches)
    return WordLogits(stitch(enlarged(small, 1), windows.boxes, windows.size), words, peaks)


def many_word_probabilities(
    encoder: Encoder, picture: Picture, text: TextEmbeddings, tags: list[int] | None, refine: Refine
) -> tuple[Tensor, list[int], Tensor]:
    """As ``class_probabilities`` of all words, without ever holding them.

    Args:
        tags: classes that may answer; None: all. refine: [1, M+1, H, W] logits -> the same.

    Returns:
        probabilities [1, 1+K, H, W] (background first) of the K classes that are kept, these classes, and the
        score [C] of every class: its largest probability at any pixel, or patch where it was not kept.
    """
    owner = text.owner
    mine = torch.ones_like(owner, dtype=torch.bool)
    if tags is not None:
        mine = (owner < 0) | torch.isin(owner, torch.tensor(tags, dtype=owner.dtype, device=owner.device))
    owner, vectors = owner[mine], text.vectors[mine].float()
    given = encoder.config.logit_scale
    scale = encoder.backbone.logit_scale if given is None else given
    short = short_word_logits(encoder, picture, vectors, scale)
    logits = refine(resize_maps(short.logits, picture.size))
    won = owner[short.words]
    classes = sorted(set(won[won >= 0].tolist()))
    place = {c: k for k, c in enumerate(classes)} | {-1: -1}
    local = torch.tensor([*(place[c] for c in won.tolist()), len(classes)], device=logits.device)  # last: the rest
    probabilities = class_probabilities(logits, local, len(classes) + 1, scale)[:, :-1]
    scores = short.peaks.new_zeros(len(text.vocabulary.names))
    own = owner >= 0
    scores = scores.scatter_reduce(0, owner[own], short.peaks[own], "amax")
    scores[classes] = probabilities[0, 1:].flatten(1).amax(1)
    return probabilities, classes, scores
