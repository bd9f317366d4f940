"""The losses of one step: what image labels, the stem's own knowledge, a teacher and refined masks say.

Letters: B pictures, N patches, P concepts, G background words, I = 1,000 names of ImageNet, E embedding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from clipseg_ws.embedded.losses import Walk, activation_maps, map_loss, spread
from clipseg_ws.embedded.photo.concepts import VOC
from clipseg_ws.embedded.photo.recipe import Weights

NO = -1e4  # logit of what is not in the question
SURE, SURELY_NOT = 0.65, 0.25  # of the teacher's maps, whose largest value is 1
SEEN = 0.01  # ImageNet's names with at least this probability by the stem may be in the picture


@dataclass(frozen=True, eq=False)
class Words:
    """Unit vectors: concepts [P, E], background [G, E], other (what no picture shows) [1, E], imagenet [I, E]."""

    concepts: Tensor
    background: Tensor
    other: Tensor
    imagenet: Tensor

    def question(self) -> Tensor:
        """[P + G + 1, E]: what a patch is asked."""
        return torch.cat([self.concepts, self.background, self.other])


@dataclass(frozen=True, eq=False)
class Logits:
    """scale times cosine: cls, pooled [B, P + G + 1]; patches [B, N, P + G + 1]; cls_imagenet [B, I];
    patches_imagenet [B, N, I]."""

    cls: Tensor
    pooled: Tensor
    patches: Tensor
    cls_imagenet: Tensor
    patches_imagenet: Tensor


@dataclass(frozen=True, eq=False)
class Stemmed:
    """What the frozen stem says of a batch: x16, x32 features; opinion [B, I] and patch_opinion [B, I, h32, w32]
    logits; similarity [B, N, N], rows sum to 1."""

    x16: Tensor
    x32: Tensor
    opinion: Tensor
    patch_opinion: Tensor
    similarity: Tensor


@dataclass(frozen=True, eq=False)
class Truth:
    """present, known float [B, P]; shares [B, N, 21]; voc bool [B]: a picture of VOC; free bool [B, I]: names of
    ImageNet that are surely not in the picture."""

    present: Tensor
    known: Tensor
    shares: Tensor
    voc: Tensor
    free: Tensor


def stem_similarity(x16: Tensor, x32: Tensor, width: float = 0.08) -> Tensor:
    """Features of strides 16 and 32 -> softmax of the mean cosine of patches, [B, N, N]."""
    x32 = F.interpolate(x32, size=x16.shape[-2:], mode="bilinear", align_corners=False)
    coarse = F.normalize(x32.flatten(2), dim=1)
    fine = F.normalize((x16 - x16.mean((2, 3), keepdim=True)).flatten(2), dim=1)
    cosine = (coarse.transpose(1, 2) @ coarse + fine.transpose(1, 2) @ fine) / 2
    return (cosine / width).softmax(-1)


def free_names(opinion: Tensor, present: Tensor, related: Tensor) -> Tensor:
    """bool [B, I]: not related to what is present ([B, P] against [P, I]) and not seen by the stem."""
    return (present @ related.float() == 0) & (opinion.softmax(-1) < SEEN)


def multi_positive(logits: Tensor, present: Tensor, known: Tensor) -> Tensor:
    """Every present name against all absent ones: mean of softplus(logsumexp(absent) - present); all [B, T]."""
    absent = logits.masked_fill((present > 0) | (known == 0), NO).logsumexp(-1, keepdim=True)
    return (F.softplus(absent - logits) * present).sum() / present.sum().clamp(min=1)


def logits_of(walk: Walk, words: Words, scale: Tensor) -> Logits:
    """All comparisons of pictures and patches with words, once."""
    ask, imagenet = words.question().T, words.imagenet.T
    return Logits(
        cls=scale * walk.cls @ ask, pooled=scale * walk.pooled @ ask, patches=scale * walk.values @ ask,
        cls_imagenet=scale * walk.cls @ imagenet, patches_imagenet=(scale * walk.values @ imagenet).float(),
    )  # fmt: skip


def label_losses(walk: Walk, logits: Logits, truth: Truth, stem: Stemmed) -> dict[str, Tensor]:
    """From image labels and the stem: names, others, opinion, patch_opinion, presence, attention."""
    extra = logits.cls.shape[1] - truth.present.shape[1]
    present, known = F.pad(truth.present, (0, extra)), F.pad(truth.known, (0, extra), value=1.0)
    losses = {"names": multi_positive(logits.cls, present, known) + multi_positive(logits.pooled, present, known)}
    free = torch.cat([torch.zeros_like(known), truth.free.float()], 1)
    joined = torch.cat([logits.cls, logits.cls_imagenet], 1)
    losses["others"] = multi_positive(joined, F.pad(present, (0, truth.free.shape[1])), free)
    opinion = stem.opinion.softmax(-1)
    losses["opinion"] = F.kl_div(logits.cls_imagenet.log_softmax(-1), opinion, reduction="batchmean")
    losses["patch_opinion"] = _patch_opinion(logits.patches_imagenet, walk.grid, stem)
    patch = logits.patches.masked_fill(known[:, None] == 0, NO).softmax(-1)
    count = max(1, walk.grid[0] * walk.grid[1] // 10)
    top = patch[..., : truth.present.shape[1]].topk(count, 1).values.mean(1).clamp(1e-4, 1 - 1e-4)
    wrong = F.binary_cross_entropy(top, truth.present, reduction="none") * truth.known
    losses["presence"] = wrong.sum(-1).mean()
    losses["attention"] = -(stem.similarity * walk.attention.clamp(min=1e-8).log()).sum(-1).mean()
    return losses


def _patch_opinion(logits: Tensor, grid: tuple[int, int], stem: Stemmed) -> Tensor:
    """The stem's opinion at stride 32 against the mean logits of the four patches there."""
    pooled = F.avg_pool2d(torch.unflatten(logits.transpose(1, 2), 2, grid), 2)
    return F.kl_div(pooled.log_softmax(1), stem.patch_opinion.softmax(1), reduction="none").sum(1).mean()


def teacher_loss(logits: Logits, truth: Truth, teacher: Walk, its: Words, scale: Tensor, similarity: Tensor) -> Tensor:
    """Patches against what the teacher is sure of, after its scores were spread twice."""
    count = truth.present.shape[1]
    known = F.pad(truth.known, (0, logits.cls.shape[1] - count), value=1.0)[:, None] == 0
    with torch.no_grad():
        scores = (scale * teacher.values @ its.question().T).masked_fill(known, NO).softmax(-1)[..., :count]
        scores = scores * truth.present[:, None]
        spreading = (similarity + teacher.attention) / 2
        scores = spreading @ (spreading @ scores)
        low, high = scores.amin(1, keepdim=True), scores.amax(1, keepdim=True)
        confidence, label = ((scores - low) / (high - low).clamp(min=1e-6) * truth.present[:, None]).max(-1)
        sure, empty = confidence > SURE, confidence < SURELY_NOT
    mine = logits.patches.masked_fill(known, NO).softmax(-1)
    inside = mine.gather(2, label[..., None])[..., 0].clamp(min=1e-6).log()
    outside = mine[..., count:].sum(-1).clamp(1e-6, 1).log()
    return -(inside * sure).sum() / sure.sum().clamp(min=1) - (outside * empty).sum() / empty.sum().clamp(min=1)


def mask_losses(logits: Logits, truth: Truth) -> dict[str, Tensor]:
    """Patches against the shares of the refined masks, asked VOC's names and background, and ImageNet's as well."""
    voc, concepts = len(VOC), truth.present.shape[1]
    ground = logits.patches[..., concepts:].logsumexp(-1, keepdim=True)
    own = torch.cat([ground, logits.patches[..., :voc]], -1)  # [B, N, 21]
    weight = 1.0 + (truth.shares[..., 1:].sum(-1, keepdim=True) > 0.5).float()
    shares = truth.shares * weight
    total = shares.sum().clamp(min=1)
    whole = own.logsumexp(-1, keepdim=True)
    others = logits.patches_imagenet.masked_fill(~truth.free[:, None], NO).logsumexp(-1, keepdim=True)
    wider = torch.logaddexp(whole, others)
    return {"masks": -(shares * (own - whole)).sum() / total, "mask_others": -(shares * (own - wider)).sum() / total}


def map_losses(walk: Walk, words: Words, scale: Tensor, truth: Truth, chance: torch.Generator) -> dict[str, Tensor]:
    """softmax-GradCAM of one present class per picture, before and after spreading, against its mask's shares."""
    count, batch = len(VOC), len(truth.present)
    present = truth.present[:, :count] * truth.voc[:, None]
    drawn = torch.rand(batch, count, generator=chance).to(present.device)
    chosen = (drawn * present - (present == 0).float()).argmax(1)
    full = (torch.rand(batch, generator=chance).to(present.device) < 0.4)[:, None]  # all names, or the present ones
    grounds = torch.ones(batch, len(words.background), dtype=torch.bool, device=present.device)
    allowed = torch.cat([(present > 0) | full, grounds], 1)
    texts = torch.cat([words.concepts[:count], words.background])
    maps = activation_maps(walk, texts, scale, allowed, chosen)
    wanted = truth.shares[..., 1:].gather(2, chosen[:, None, None].expand(-1, maps.shape[1], 1))[..., 0]
    has = (present.sum(1) > 0) & (wanted.sum(1) > 0.5)
    if not has.any():
        return {"activation": maps.sum() * 0, "spread": maps.sum() * 0}
    wide = spread(walk.attention, maps)
    return {"activation": map_loss(maps[has], wanted[has]), "spread": map_loss(wide[has], wanted[has])}


def weighted(losses: dict[str, Tensor], weights: Weights) -> dict[str, Any]:
    """Every loss times its weight."""
    return {name: getattr(weights, name) * loss for name, loss in losses.items()}
