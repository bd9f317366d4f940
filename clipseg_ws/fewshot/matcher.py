"""From a bank of examples to class maps on the patch grid: the composition of the few-shot pieces.

``FewShotMatcher`` prepares a bank once; a call compares B queries with it. What comes out are probabilities on the
patch grid, for which affinity, picture refinement and decision are the same as for any maps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from clipseg_ws.activations.alignment import check_alignment, support_weights
from clipseg_ws.activations.crossref import channel_gates, gated_cosine
from clipseg_ws.activations.gradcam import min_max
from clipseg_ws.activations.online import blend, classify_online, find_seeds, query_prototypes
from clipseg_ws.activations.parts import match_parts
from clipseg_ws.activations.prior import nearest_cosine
from clipseg_ws.activations.prototypes import class_prototypes, cosine, vote
from clipseg_ws.activations.ridge import Ridge, fit_ridge, ridge_answers
from clipseg_ws.activations.suppress import fold, suppress
from clipseg_ws.fewshot.bank import SupportBank
from clipseg_ws.fewshot.options import FewShotConfig
from clipseg_ws.fewshot.prepared import join_kinds, prepare

TIE = 1e-3  # by which the background stays behind a class that has half of the votes


@dataclass(frozen=True, eq=False)
class FewShotMaps:
    """What B queries look like to a bank.

    Attributes:
        labels: the K classes asked for. probabilities: [B, 1+K, h, w] float32, background first, adding up to 1.
        presence: [B, K] in [0, 1], how far the best cells reach what the supports' own object reaches.
        alignment: [B, S] IoU in [0, 1] of each support segmented from the query; None where it was not checked.
        supports: names of the S supports ("cat 2" where there is no file), for the report.
    """

    labels: tuple[str, ...]
    probabilities: Tensor
    presence: Tensor
    alignment: Tensor | None
    supports: tuple[str, ...]


class FewShotMatcher:
    """A bank, prepared once for many queries.

    Args:
        bank: of the same weights as the queries' tokens. config: see ``FewShotConfig``.

    Raises:
        BankError: the bank lacks a kind of features. ValueError: a setting that is not possible.
    """

    def __init__(self, bank: SupportBank, config: FewShotConfig | None = None) -> None:
        self.config = config or FewShotConfig()
        self.refit, self.refit_name = self.config.refitting(), str(self.config.refit).partition("(")[0]
        self.source = bank
        self.labels = bank.labels
        self.asked = [self.labels.index(label) for label in bank.asked or self.labels]
        self.supports = tuple(e.name or f"{e.label} {i + 1}" for i, e in enumerate(bank.entries))
        parts = self.config.step("parts")
        counts = (1, 1) if parts is None else (parts.get("count", 3), parts.get("background", 1))
        self.bank = prepare(bank, self.config.kinds, *counts)
        self.ridge: Ridge | None = None
        if self.refit_name == "supports":
            shots = torch.bincount(self.bank.ways, minlength=len(self.labels))
            self.ridge = fit_ridge(self.bank.moments, self.refit["ridge"] / shots)
        inside = self._margins(self._similarity(self.bank.cells.t()[None, :, None], *self._prototypes(None)))
        self.typical = self._typical(inside[0, :, 0])

    def __call__(self, features: Mapping[str, Tensor], rivals: Tensor | None = None) -> FewShotMaps:
        """Compare B queries with the bank.

        Args:
            features: by kind, each [B, D, h, w], see ``activations/featuremaps.py``.
            rivals: [B, K, h, w] in [0, 1], for all K classes of the bank the probability of another known class
                (``activations/suppress.py``).
        """
        config = self.config
        joined = join_kinds(features, config.kinds)
        if config.step("vote") and len(self.supports) > len(self.labels):
            similarity = self._votes(joined)
        else:
            similarity = self._similarity(joined, *self._prototypes(None))
        iou = None
        if config.step("alignment"):
            iou = self._align(joined, similarity.argmax(1))
            similarity = self._similarity(joined, *self._prototypes(support_weights(iou, self.bank.ways)))
        margins = self._margins(similarity)
        presence = self._presence(margins)
        probabilities = self._suppressed((config.scale * similarity).softmax(1), rivals)
        for _ in range(self.refit.get("rounds", 0)):
            maps = torch.unflatten(min_max(margins.flatten(2)), 2, margins.shape[2:])
            maps = maps if rivals is None else maps * (1 - rivals)
            logits = self._refit(joined, maps)
            margins = self._margins(logits)
            probabilities = self._suppressed(logits.softmax(1), rivals)
        if self.ridge is not None:
            probabilities = self._suppressed(self._ridge_logits(joined, similarity).softmax(1), rivals)
        labels = tuple(self.labels[k] for k in self.asked)
        return FewShotMaps(labels, fold(probabilities, self.asked), presence[:, self.asked], iou, self.supports)

    # ---- inside ----------------------------------------------------------------------------------------------------

    def _prototypes(self, weights: Tensor | None) -> tuple[Tensor, Tensor]:
        """Foreground [B|1, K, 1+P, D] and background [1, Q, D] of the supports; ``weights`` [B, S] of the supports."""
        bank = self.bank
        means = class_prototypes(bank.shown, bank.ways, len(self.labels), weights)
        means = means if means.ndim == 3 else means[None]
        parts = bank.parts[None].expand(len(means), -1, -1, -1)
        return torch.cat([means[:, :, None], parts], 2), bank.background[None]

    def _similarity(self, features: Tensor, foreground: Tensor, background: Tensor) -> Tensor:
        """[B, 1+K, h, w] in [-1, 1], background first; features [B, D, h, w]."""
        config = self.config
        if config.step("crossref"):
            means = foreground[:, :, 0]
            classes = gated_cosine(features, means, channel_gates(means, features))
        else:
            classes = match_parts(features, foreground, scale=1.0)
        result = torch.cat([match_parts(features, background[:, None], scale=1.0), classes], 1)
        if not config.prior:
            return result
        near = torch.stack([nearest_cosine(features, cells) for cells in self.bank.near], 1)
        return (1 - config.prior) * result + config.prior * near

    def _refit(self, features: Tensor, maps: Tensor) -> Tensor:
        """[B, 1+K, h, w] logits of prototypes or a classifier fitted to the query's seeds in ``maps`` [B, K, h, w]."""
        refit, scale = self.refit, self.config.scale
        seeds = find_seeds(maps, sure=refit["sure"], unsure=refit["unsure"])
        if self.refit_name == "classifier":
            answers = classify_online(
                features, seeds, self.bank.moments, ridge=refit["ridge"], query_share=refit["query_share"]
            )
            return torch.cat([torch.zeros_like(answers[:, :1]), refit["sharpness"] * (answers - refit["margin"])], 1)
        foreground, background = query_prototypes(features, seeds, refit["query_background"])
        means = blend(self._prototypes(None)[0][:, :, 0], foreground, refit["query_share"])
        classes = match_parts(features, means[:, :, None], scale=scale)
        return torch.cat([match_parts(features, background[:, None], scale=scale), classes], 1)

    def _ridge_logits(self, features: Tensor, similarity: Tensor) -> Tensor:
        """[B, 1+K, h, w] logits of the classifier on the supports, the background's 0; of a class with too few of them
        how far its prototypes are above the background's, ``similarity`` [B, 1+K, h, w]."""
        assert self.ridge is not None
        answers = self.refit["sharpness"] * (ridge_answers(features, self.ridge) - self.refit["margin"])
        means = self.config.scale * (similarity[:, 1:] - similarity[:, :1])
        few = torch.bincount(self.bank.ways, minlength=len(self.labels)) < self.refit["shots"]
        answers = torch.where(few[:, None, None], means, answers)
        return torch.cat([torch.zeros_like(answers[:, :1]), answers], 1)

    def _margins(self, scores: Tensor) -> Tensor:
        """How far each class is above the best of the others: [B, 1+K, h, w] -> [B, K, h, w]."""
        count = scores.shape[1]
        others = [scores[:, [j for j in range(count) if j != i]].amax(1) for i in range(1, count)]
        return scores[:, 1:] - torch.stack(others, 1)

    def _typical(self, margins: Tensor) -> Tensor:
        """[K] mean margin of the supports' own foreground cells; margins [K, M] of all cells."""
        inside = self.bank.foreground  # [K, M]
        return (margins * inside).sum(1) / inside.sum(1).clamp_min(1e-12)

    def _presence(self, margins: Tensor) -> Tensor:
        """[B, K]: mean margin of the best fiftieth of the cells, as a share of the supports' own."""
        flat = margins.flatten(2)
        best = flat.topk(max(1, flat.shape[2] // 50), dim=2).values.mean(2)
        return (best / self.typical.clamp_min(1e-6)).clamp(0, 1)

    def _suppressed(self, probabilities: Tensor, rivals: Tensor | None) -> Tensor:
        return probabilities if rivals is None else suppress(probabilities, rivals)

    def _align(self, features: Tensor, labels: Tensor) -> Tensor:
        """[B, S] IoU of every support segmented from the queries' labels [B, h, w]."""
        iou = torch.zeros(len(labels), len(self.supports), device=labels.device)
        for group in self.bank.groups:
            found = check_alignment(
                features, labels, group.features, group.foreground > 0.5, group.background > 0.5,
                self.bank.ways[group.index], count=len(self.labels), scale=self.config.scale,
            )  # fmt: skip
            iou[:, group.index] = found.iou
        return iou

    def _votes(self, features: Tensor) -> Tensor:
        """HSNet: every support decides alone; [B, 1+K, h, w] shares of votes, the background what the best leaves.

        A share of one half is the class's, as in the paper.
        """
        pair = torch.stack([cosine(features, self.bank.ground), cosine(features, self.bank.shown)], 2)
        shares = torch.stack([vote(pair[:, self.bank.ways == k])[1] for k in range(len(self.labels))], 1)
        best = shares.amax(1, keepdim=True)
        rest = torch.where(best >= 0.5, (1 - best).clamp_max(0.5 - TIE), 1 - best)
        return torch.cat([rest, shares], 1)
