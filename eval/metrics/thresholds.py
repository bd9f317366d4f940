"""Threshold sweeps in one pass: every background threshold and power of a set of maps from one reading of the scores.

What a pixel becomes depends only on its largest map value and on which map that is: with a background score b(value) it
is background where b >= value (arg-max takes the first of equal values, and background stands first). Both families of
CLIP-ES (Lin et al., CVPR 2023, arXiv 2212.09506) are ordered, so "for how many settings is this pixel foreground"
says everything, and one histogram over (truth, map, that number) holds every confusion matrix.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from clipseg_ws.eval.metrics.confusion import as_labels, scores

THRESHOLDS = tuple(round(0.05 * i, 2) for i in range(1, 13))  # 0.05 … 0.60
POWERS = (1.0, 2.0)


class ThresholdSweep:
    """Confusion matrices for background = constant t, and for background = (1 - max)^a, for every t and a at once.

    Args:
        num_classes: C with background; map i belongs to label i+1 unless ``labels`` says otherwise.
        thresholds: constants, ascending.
        powers: exponents, ascending.
        dtype: arithmetic of the comparison; torch.float16 repeats CLIP-ES's evaluator, None keeps the maps' dtype.
    """

    def __init__(
        self,
        num_classes: int,
        thresholds: Sequence[float] = THRESHOLDS,
        powers: Sequence[float] = POWERS,
        *,
        ignore_index: int = 255,
        dtype: torch.dtype | None = None,
    ) -> None:
        if list(thresholds) != sorted(thresholds) or list(powers) != sorted(powers):
            raise ValueError(f"thresholds {thresholds} and powers {powers} must ascend, e.g. (0.1, 0.2) and (1, 2)")
        self.num_classes = num_classes
        self.thresholds, self.powers = tuple(thresholds), tuple(powers)
        self.ignore_index = ignore_index
        self.dtype = dtype
        self.counts = {  # [truth, winning label, number of settings that keep it as foreground]
            "threshold": torch.zeros(num_classes, num_classes, len(thresholds) + 1, dtype=torch.int64),
            "power": torch.zeros(num_classes, num_classes, len(powers) + 1, dtype=torch.int64),
        }

    def update(self, maps: Any, target: Any, labels: Sequence[int] | None = None) -> None:
        """Add one image: maps [K, H, W] in [0, 1], truth [H, W]; ``labels`` [K] names the label of each map.

        Raises ValueError for sizes that differ, more maps than classes, or truth outside 0…C-1 (and not ignored).
        """
        maps = maps if isinstance(maps, torch.Tensor) else torch.from_numpy(np.ascontiguousarray(maps))
        target = as_labels(target).to(maps.device).long()
        owners = torch.as_tensor(list(labels) if labels is not None else range(1, len(maps) + 1), device=maps.device)
        if maps.shape[1:] != target.shape or len(owners) != len(maps):
            raise ValueError(f"maps {tuple(maps.shape)}, truth {tuple(target.shape)}, {len(owners)} labels do not fit")
        keep = target != self.ignore_index
        truth = target[keep]  # [P]
        if truth.numel() and not (int(truth.min()) >= 0 and int(truth.max()) < self.num_classes):
            raise ValueError(f"truth holds labels outside 0…{self.num_classes - 1}, e.g. {int(truth.max())}")
        if len(owners) and not (int(owners.min()) > 0 and int(owners.max()) < self.num_classes):
            raise ValueError(f"map labels {owners.tolist()} are outside 1…{self.num_classes - 1}")
        best, owner = self._best(maps.to(self.dtype or maps.dtype), owners, keep)
        added = {"threshold": self._over(best), "power": self._powers(best)}
        for kind, survived in added.items():
            shape = self.counts[kind].shape
            index = (truth * self.num_classes + owner) * shape[2] + survived  # [P]
            added[kind] = torch.bincount(index, minlength=shape.numel()).view(shape)
        self.counts = {kind: value.to(added[kind].device) + added[kind] for kind, value in self.counts.items()}

    @staticmethod
    def _best(maps: torch.Tensor, owners: torch.Tensor, keep: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Largest value [P] and the label of the first map that holds it [P], of the pixels kept."""
        if not len(maps):
            count = int(keep.sum())
            return maps.new_zeros(count), torch.zeros(count, dtype=torch.int64, device=maps.device)
        best = maps.amax(0)
        first = (maps == best).to(torch.uint8).argmax(0)  # torch.max may return any of several equal values
        return best[keep], owners.long()[first[keep]]

    def _over(self, best: torch.Tensor) -> torch.Tensor:
        """[P] int64: how many thresholds lie below each value (values of maps below 0 count as 0)."""
        limits = torch.tensor(self.thresholds, dtype=best.dtype, device=best.device)
        return sum(((best > limit).long() for limit in limits), torch.zeros_like(best, dtype=torch.int64))

    def _powers(self, best: torch.Tensor) -> torch.Tensor:
        """[P] int64: for how many powers the value beats (1 - value)^a; they ascend, so the last ones are those."""
        rest = 1 - best
        return sum(((best > rest**a).long() for a in self.powers), torch.zeros_like(best, dtype=torch.int64))

    def matrices(self, kind: str) -> torch.Tensor:
        """[settings, C, C] int64 confusion matrices, in the order of ``thresholds`` or ``powers``."""
        counts = self.counts[kind]
        settings = counts.shape[2] - 1
        at_most = counts.cumsum(2)  # [C, C, settings+1]: pixels that survive at most so many settings
        total = at_most[..., -1]
        out = []
        for i in range(settings):
            # threshold i is survived by pixels that survive more than i; power i by those that survive >= settings - i
            lost = at_most[..., i if kind == "threshold" else settings - i - 1]
            matrix = total - lost
            matrix[:, 0] += lost.sum(1)
            out.append(matrix)
        return torch.stack(out) if out else counts.new_zeros(0, self.num_classes, self.num_classes)

    def compute(self, average: str = "union", first_class: int = 0) -> list[dict[str, Any]]:
        """One entry a setting: {"kind": "threshold" or "power", "value", "mIoU", "pixel_accuracy"}."""
        out = []
        for kind, values in (("threshold", self.thresholds), ("power", self.powers)):
            for value, matrix in zip(values, self.matrices(kind), strict=True):
                result = scores(matrix, average=average, first_class=first_class)
                out.append({"kind": kind, "value": value} | {k: result[k] for k in ("mIoU", "pixel_accuracy")})
        return out

    def merge(self, other: ThresholdSweep) -> ThresholdSweep:
        """Add another sweep over the same settings to this one; returns this one."""
        mine = (self.num_classes, self.thresholds, self.powers)
        if mine != (other.num_classes, other.thresholds, other.powers):
            raise ValueError("cannot merge sweeps over different classes, thresholds or powers")
        self.counts = {kind: value + other.counts[kind].to(value.device) for kind, value in self.counts.items()}
        return self

    def state(self) -> dict[str, np.ndarray]:
        """What has to be saved to go on later."""
        return {kind: value.cpu().numpy() for kind, value in self.counts.items()}

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from `state`. Raises ValueError for other settings."""
        for kind, value in self.counts.items():
            if np.shape(state[kind]) != tuple(value.shape):
                raise ValueError(
                    f"saved {kind} counts are {np.shape(state[kind])}, this run needs {tuple(value.shape)}"
                )
        self.counts = {kind: torch.from_numpy(np.array(state[kind], np.int64)) for kind in self.counts}
