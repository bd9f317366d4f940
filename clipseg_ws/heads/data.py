"""Where training batches come from, in an order that seed and number decide; a part of a batch has one grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from clipseg_ws.heads.identity import digest_of
from clipseg_ws.pictures.loading import grouped
from clipseg_ws.stored import is_sure, to_bytes, to_labels
from clipseg_ws.structures import IGNORE


@dataclass(frozen=True, eq=False)
class Batch:
    """B pictures of one grid.

    Attributes:
        features: [B, L, D, h, w] floating point. labels: [B, H, W] int64, 255 ignored; the same extent at any size.
        confidence: [B, H, W] float32 in [0, 1]. index: the pictures' numbers in the data.
    """

    features: Tensor
    labels: Tensor
    confidence: Tensor
    index: tuple[int, ...]

    def to(self, device: torch.device | str) -> Batch:
        """The same on another device."""
        return replace(
            self, features=self.features.to(device), labels=self.labels.to(device),
            confidence=self.confidence.to(device),
        )  # fmt: skip


class HeadData(Protocol):
    """What a training reads."""

    @property
    def grids(self) -> Sequence[tuple[int, int]]:
        """Patch grid of every picture."""
        ...

    @property
    def blocks(self) -> int:
        """L."""
        ...

    @property
    def width(self) -> int:
        """D."""
        ...

    def batch(self, index: Sequence[int], seed: tuple[int, ...]) -> Batch:
        """Pictures of one grid; ``seed`` decides what is random."""
        ...

    def target(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Labels and confidence of one picture, uint8 [H, W] each (confidence 255 = 1)."""
        ...

    def digest(self) -> str:
        """16 digits that change with every token and target, or with all that they are made from."""
        ...


@dataclass(frozen=True, eq=False)
class Targets:
    """Labels and confidence of pictures, uint8 [H, W] each; all pictures of one grid have one size."""

    labels: Sequence[np.ndarray]
    confidence: Sequence[np.ndarray]

    def __post_init__(self) -> None:
        for i, (labels, confidence) in enumerate(zip(self.labels, self.confidence, strict=True)):
            if labels.dtype != np.uint8 or confidence.dtype != np.uint8 or labels.shape != confidence.shape:
                raise ValueError(
                    f"target {i} is {labels.dtype} {labels.shape} with confidence {confidence.dtype} "
                    f"{confidence.shape}; both must be uint8 [H, W] (labels 0 to 254, 255 ignored; confidence 255 = 1)"
                )

    def stacked(self, index: Sequence[int]) -> tuple[Tensor, Tensor]:
        """labels [B, H, W] int64 and confidence [B, H, W] float32."""
        labels = torch.from_numpy(np.stack([self.labels[i] for i in index])).long()
        return labels, torch.from_numpy(np.stack([self.confidence[i] for i in index])).float() / 255


class ArrayData:
    """Tokens and targets in memory.

    Args:
        features: [B, L, D, h, w], or a sequence of [L, D, h, w] of several grids.
        labels: [B, H, W] integer (numpy or tensor) or a sequence of [H, W]. confidence: likewise in [0, 1]; None: 1.

    Raises:
        ValueError: unequal numbers of pictures, labels outside 0 to 255, confidence outside [0, 1].
    """

    def __init__(
        self, features: Tensor | Sequence[Tensor], labels: Sequence[Any], confidence: Sequence[Any] | None = None
    ) -> None:
        self.features = list(features)
        masks = [to_labels(m) for m in labels]
        sure = [np.full_like(m, 255) for m in masks] if confidence is None else [to_bytes(c) for c in confidence]
        if not len(self.features) == len(masks) == len(sure) or not masks:
            raise ValueError(
                f"{len(self.features)} pictures' features, {len(masks)} label maps, {len(sure)} confidence maps; equal "
                "numbers of at least 1 are needed"
            )
        self.targets = Targets(masks, sure)
        self.grids = [(int(f.shape[-2]), int(f.shape[-1])) for f in self.features]
        self.blocks, self.width = int(self.features[0].shape[0]), int(self.features[0].shape[1])

    def batch(self, index: Sequence[int], seed: tuple[int, ...]) -> Batch:
        """Nothing is random here."""
        labels, confidence = self.targets.stacked(index)
        return Batch(torch.stack([self.features[i] for i in index]), labels, confidence, tuple(index))

    def target(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """See ``HeadData``."""
        return self.targets.labels[index], self.targets.confidence[index]

    def digest(self) -> str:
        """See ``HeadData``."""
        return digest_of(self.features, self.targets)


class Joined:
    """Several data one after another, with the same blocks and width."""

    def __init__(self, parts: Sequence[HeadData]) -> None:
        self.parts = list(parts)
        self.grids = [grid for part in parts for grid in part.grids]
        self.blocks, self.width = parts[0].blocks, parts[0].width
        self._owner = [(number, i) for number, part in enumerate(parts) for i in range(len(part.grids))]

    def batch(self, index: Sequence[int], seed: tuple[int, ...]) -> Batch:
        """The pictures' batches from their parts, put together; targets must have one size a grid."""
        singles = [self.parts[n].batch([i], (*seed, k)) for k, (n, i) in enumerate(self._owner[j] for j in index)]
        return Batch(
            torch.cat([b.features for b in singles]), torch.cat([b.labels for b in singles]),
            torch.cat([b.confidence for b in singles]), tuple(index),
        )  # fmt: skip

    def target(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """See ``HeadData``."""
        number, i = self._owner[index]
        return self.parts[number].target(i)

    def digest(self) -> str:
        """See ``HeadData``."""
        return digest_of([part.digest() for part in self.parts])


class Retargeted:
    """The same pictures with other targets.

    ``made``: what the targets follow from, where heads made them: rounding moves such targets from machine to machine,
    and a training must go on there too. None: their own content counts.
    """

    def __init__(self, data: HeadData, targets: Targets, made: Any = None) -> None:
        self.data, self.targets, self.made = data, targets, made
        self.grids, self.blocks, self.width = data.grids, data.blocks, data.width
        if len(targets.labels) != len(data.grids):
            raise ValueError(f"{len(targets.labels)} targets for {len(data.grids)} pictures; equal numbers are needed")

    def batch(self, index: Sequence[int], seed: tuple[int, ...]) -> Batch:
        """See ``HeadData``."""
        labels, confidence = self.targets.stacked(index)
        return replace(self.data.batch(index, seed), labels=labels, confidence=confidence)

    def target(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """See ``HeadData``."""
        return self.targets.labels[index], self.targets.confidence[index]

    def digest(self) -> str:
        """See ``HeadData``."""
        return digest_of(self.data.digest(), self.targets if self.made is None else self.made)


def batch_order(count: int, size: int, seed: tuple[int, ...]) -> list[list[int]]:
    """One pass over ``count`` pictures in batches of ``size``, shuffled by ``seed``; the last one is filled up."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(count).tolist()
    order += rng.choice(count, -count % size, replace=count < size).tolist()
    return [order[s : s + size] for s in range(0, len(order), size)]


def by_grid(index: Sequence[int], grids: Sequence[tuple[int, int]], size: int | None = None) -> list[list[int]]:
    """Pictures of one grid together, in order of first occurrence, at most ``size`` (None: any number) a part."""
    return [[index[place] for place in part] for part in grouped([grids[i] for i in index], size)]


def check_targets(data: HeadData, labels: int, names: Sequence[str], *, threshold: float = 0.0) -> np.ndarray:
    """How much every label counts, the sum of its pixels' confidence (255 = 1): int64 [labels].

    Args:
        labels: 1 + C. names: C class names. threshold: confidence from which a pixel counts.

    Raises:
        ValueError: a label that no class has; nothing but ignored pixels; a class without a pixel.
    """
    counts, sums = np.zeros(256, np.int64), np.zeros(256)
    for i in range(len(data.grids)):
        mask, confidence = data.target(i)
        counts += count_pixels(mask, confidence, threshold)
        sure = is_sure(confidence, threshold)
        sums += np.bincount(mask[sure], weights=confidence[sure], minlength=256)
    check_counts(counts, labels, names, threshold)
    return sums[:labels].astype(np.int64)


def count_pixels(mask: np.ndarray, confidence: np.ndarray, threshold: float) -> np.ndarray:
    """Pixels of each label that are sure enough, int64 [256]. Both uint8 [H, W]."""
    return np.bincount(mask[is_sure(confidence, threshold)], minlength=256)


def check_counts(counts: np.ndarray, labels: int, names: Sequence[str], threshold: float) -> None:
    """Raise ``check_targets``'s errors for pixels by label [256]."""
    strange = [int(i) for i in np.flatnonzero(counts[labels:IGNORE]) + labels]
    if strange:
        raise ValueError(
            f"wrong number of classes: a target holds label {strange[0]}, but there are {labels - 1} classes "
            f"({', '.join(names[:5])}{', ...' if len(names) > 5 else ''}), so labels go from 0 to {labels - 1}"
        )
    if not counts[:labels].any():
        raise ValueError(
            f"no pixel can be learned from: all are ignored (255) or below the confidence {threshold}; a lower "
            "threshold keeps more, for example confidence=0.6"
        )
    empty = [name for name, count in zip(names, counts[1:labels], strict=True) if not count]
    if empty:
        raise ValueError(
            f"no pixel of {', '.join(empty)} can be learned from (confidence from {threshold} on); leave the class "
            "out, add pictures of it, or lower the confidence"
        )
