"""Which classes of a vocabulary are in the picture: decided before anything is refined.

Three signals, all from one encoding, all probabilities against every class and every background word:

* **image**: softmax of the class token and of the mean patch token (the larger counts). Dominated by what fills the
  picture, hardly fooled by a single odd patch.
* **local** (local-to-global tagging, TagCLIP, Lin et al., AAAI 2024, arXiv 2312.12828): the best patches of a class,
  each weighed by what the patches it attends to say (stability under the mean attention, FreeCP, Chen et al.,
  ICCV 2025, arXiv 2508.00557).
* **region** (TagCLIP's class-wise re-identification): the mean embedding of the class's own region, classified again.

The score is (3 sqrt(local region) + image) / 4: on drawn scenes as good as a fitted combination of ten signals, with 12
and with 100 names and with look-alikes among them, and at the same threshold.

Recurrence (CaR, Sun et al., CVPR 2024, arXiv 2312.07661): hopeless classes leave the softmax and the rest is judged
anew, until the set is stable. "Hopeless" is far below "absent": with fewer competitors probabilities only rise, so a
cut at the threshold itself would never change the answer. Every image is treated on its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from clipseg_ws.activations.correlated import row_normalised
from clipseg_ws.activations.dense import dense_embeddings
from clipseg_ws.activations.last_block import LastBlock, forward_last_block, normalize, pool_embedding
from clipseg_ws.activations.textscores import best_words, word_logits
from clipseg_ws.backbones.protocol import Backbone
from clipseg_ws.structures import TextEmbeddings, Tokens

THRESHOLD = 0.3  # score from which a class counts as present
HOPELESS = 1 / 3  # share of the threshold below which a class leaves the competition
TOP_SHARE = 0.005  # share of the patches whose mean is a class's local score, at least one patch
IMAGE_WEIGHT = 0.25  # share of the image signal in the score


@torch.no_grad()
def presence(
    backbone: Backbone,
    tokens: Tokens,
    text: TextEmbeddings,
    *,
    block: LastBlock | None = None,
    mode: str = "maskclip",
    logit_scale: float | None = None,
    threshold: float = THRESHOLD,
    rounds: int = 4,
    patches: Tensor | None = None,
) -> Tensor:
    """Presence score of every class of the vocabulary in every image: [B, C] float32 in [0, 1].

    A class is present from ``threshold`` on: ``present = presence(...) >= threshold``. A class that left the
    competition keeps the score it left with. With a single word and nothing to compete the softmax is 1 and the class
    counts as present: give background words (the vocabularies in ``prompts/`` do).

    Args:
        tokens: of ``backbone.encode`` with attention (without it the local signal is not smoothed).
        text: the embedded vocabulary, on any device.
        block: ``forward_last_block(backbone, tokens.last_input, tokens.last)`` where the caller has it already.
        mode: dense mode of the patch embeddings, see ``activations.DENSE_MODES``.
        logit_scale: factor of the cosine; the model's own by default.
        threshold: below a third of it a class leaves the softmax of the next round. rounds: at most, from 1 on.
        patches: [B, h, w, E] ``dense_embeddings(backbone, tokens, mode)`` where the caller has them already.

    Raises:
        ValueError: an unknown mode, or ``rounds`` below 1.
    """
    _check_rounds(rounds)
    block = forward_last_block(backbone, tokens.last_input, tokens.last, tokens.grid) if block is None else block
    scale = backbone.logit_scale if logit_scale is None else logit_scale
    vectors, owner = text.vectors.to(block.out.device).float(), text.owner.to(block.out.device)
    count = len(text.vocabulary.names)
    patches = (dense_embeddings(backbone, tokens, mode) if patches is None else patches).float()
    image = scale * best_words(_image_words(backbone, block, vectors), owner, count)  # [B, C+G, 2]
    local = scale * best_words(word_logits(patches, vectors), owner, count)  # [B, C+G, h, w]
    signals = _Signals(image, local, patches, vectors, owner, scale, tokens.attention)
    return _recurrence(signals.judge, image.new_ones(len(image), count, dtype=torch.bool), rounds, HOPELESS * threshold)


def _check_rounds(rounds: int) -> None:
    if rounds < 1:
        raise ValueError(f"rounds={rounds}; at least one is needed, for example 3")


def _image_words(backbone: Backbone, block: LastBlock, vectors: Tensor) -> Tensor:
    """Cosines [B, T, 2] of all words with the class token and with the mean patch."""
    pooled = torch.stack([normalize(pool_embedding(backbone, block.out, pool)) for pool in ("cls", "patch")], 2)
    return torch.einsum("bep,te->btp", pooled, vectors)


@dataclass(frozen=True, eq=False)
class _Signals:
    """What the rounds share of B pictures.

    Attributes:
        image: [B, C+G, 2] logits of the class token and the mean patch. local: [B, C+G, h, w] logits of the patches.
        patches: [B, h, w, E] unit vectors. vectors, owner: the T words. scale: of the logits.
        attention: [B, N, N] or None.
    """

    image: Tensor
    local: Tensor
    patches: Tensor
    vectors: Tensor
    owner: Tensor
    scale: float
    attention: Tensor | None

    def judge(self, alive: Tensor) -> Tensor:
        """Scores [B, C] of one round among the classes that are ``alive`` [B, C]."""
        count = alive.shape[1]
        whole = competing(self.image, alive)[:, :count].amax(2)  # the larger of class token and mean patch
        maps = competing(self.local, alive)[:, :count]
        weights = smoothed(maps, self.attention).square()
        regions = region_scores(self.patches, weights, self.vectors, self.owner, self.scale, alive)
        return class_presence(whole, maps, self.attention, regions)


def _recurrence(judge: Callable[[Tensor], Tensor], alive: Tensor, rounds: int, limit: float) -> Tensor:
    """Scores [B, C] after at most so many rounds; classes below ``limit`` leave, with the score they left with."""
    scores = torch.zeros_like(alive, dtype=torch.float32)
    for _ in range(rounds):
        scores = torch.where(alive, judge(alive), scores)
        still = alive & (scores >= limit)
        if torch.equal(still, alive):
            break
        alive = still
    return scores


def class_presence(
    image_scores: Tensor,
    patch_probabilities: Tensor,
    attention: Tensor | None = None,
    region_scores: Tensor | None = None,
    *,
    top_share: float = TOP_SHARE,
    image_weight: float = IMAGE_WEIGHT,
) -> Tensor:
    """The three signals combined: [B, C] in [0, 1], never falling when one of them rises.

    Args:
        image_scores: [B, C] image-level probabilities. patch_probabilities: [B, C, h, w].
        attention: [B, N, N] mean attention, None: no smoothing.
        region_scores: [B, C] probability of each class for its own region, None: left out.
        top_share: share of the patches that stand for a class. image_weight: share of the image signal.
    """
    local = local_presence((patch_probabilities * smoothed(patch_probabilities, attention)).sqrt(), top_share)
    if region_scores is not None:
        local = (local * region_scores).sqrt()
    return image_weight * image_scores + (1 - image_weight) * local


def smoothed(patch_probabilities: Tensor, attention: Tensor | None) -> Tensor:
    """[B, C, h, w] averaged along the rows of the mean attention [B, N, N]; unchanged without one."""
    if attention is None:
        return patch_probabilities
    flat = patch_probabilities.flatten(2).transpose(1, 2)  # [B, C, h, w] -> [B, N, C]
    mixed = row_normalised(attention.to(flat.dtype)) @ flat
    return torch.unflatten(mixed.transpose(1, 2), 2, patch_probabilities.shape[2:])


def local_presence(maps: Tensor, top_share: float = TOP_SHARE) -> Tensor:
    """Mean over the best ``top_share`` of the patches, at least one: [B, C, h, w] -> [B, C]."""
    flat = maps.flatten(2)
    return flat.topk(max(1, round(top_share * flat.shape[2])), dim=2).values.mean(2)


def region_scores(
    embeddings: Tensor, weights: Tensor, vectors: Tensor, owner: Tensor, scale: float, alive: Tensor
) -> Tensor:
    """Classify the mean embedding of each class's own region again: [B, C] probability of the class itself.

    Args:
        embeddings: [B, h, w, E] unit patches. weights: [B, C, h, w] non-negative, the region of each class.
        vectors, owner: the T words. alive: [B, C] classes that still compete (background words always do).
    """
    regions = F.normalize(weights.flatten(2) @ embeddings.flatten(1, 2), dim=-1)  # [B, C, N] x [B, N, E]
    logits = scale * best_words((regions @ vectors.T).transpose(1, 2), owner, alive.shape[1])  # [B, C+G, C]
    probabilities = competing(logits, alive)[:, : alive.shape[1]]
    return probabilities.diagonal(dim1=1, dim2=2)


def competing(logits: Tensor, alive: Tensor) -> Tensor:
    """Softmax over classes that are ``alive`` [B, C] and all background words: [B, C+G, ...] -> the same shape.

    An image without any competitor left gets zeros.
    """
    open_to_all = alive.new_ones(alive.shape[0], logits.shape[1] - alive.shape[1])
    mask = torch.cat([alive, open_to_all], 1)
    mask = mask.view(*mask.shape, *[1] * (logits.ndim - 2))
    masked = logits.masked_fill(~mask, -torch.inf)
    nothing = masked.amax(1, keepdim=True) == -torch.inf  # a nan of the model's own stays one
    return masked.softmax(1).masked_fill(nothing, 0.0)
