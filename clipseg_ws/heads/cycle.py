"""Pictures without labels join where a cycle closes: mask -> prototypes -> mask of another picture -> back.

Cycle consistency for semi-supervised segmentation (Mittal et al., TPAMI 2021, arXiv 1908.05724, and Mondal et al.,
arXiv 1908.11569, learn an image-mask cycle with a GAN). On a frozen backbone the cycle needs no generator: the labels
of a picture give prototypes, these label the other picture, that picture's prototypes label the first one again. Where
what comes back is not what was sent, the other picture is not labelled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from clipseg_ws.heads.course import Course
from clipseg_ws.heads.data import HeadData, Joined, Retargeted, Targets
from clipseg_ws.heads.estimator import SegmentationHead
from clipseg_ws.heads.losses import at_grid
from clipseg_ws.stored import to_bytes, to_labels
from clipseg_ws.structures import IGNORE


@dataclass(frozen=True, eq=False)
class Cells:
    """One picture. vectors: [N, D] unit vectors of its patches. labels: [N] int64, 255 where not known."""

    vectors: Tensor
    labels: Tensor


def carried(source: Cells, vectors: Tensor) -> Tensor:
    """[M] int64: for each of the unit vectors [M, D] the label whose mean vector in ``source`` is nearest."""
    found = [c for c in sorted(set(source.labels.tolist())) if c != IGNORE]
    means = torch.stack([source.vectors[source.labels == c].mean(0) for c in found])
    nearest = (vectors @ F.normalize(means, dim=1).t()).argmax(1)
    return torch.tensor(found, device=vectors.device)[nearest]


def cycle(source: Cells, vectors: Tensor) -> tuple[Tensor, dict[int, float]]:
    """There and back.

    Args:
        source: a labelled picture. vectors: [M, D] unit vectors of another one.

    Returns:
        Labels [M] of the other picture, and for every label of ``source`` the IoU in [0, 1] of what came back with
        what was sent; 0 for a label that the other picture did not get.
    """
    labels = carried(source, vectors)
    back = carried(Cells(vectors, labels), source.vectors)
    known = source.labels != IGNORE
    iou = {}
    for c in sorted(set(source.labels.tolist()) - {IGNORE}):
        sent, returned = (source.labels == c) & known, (back == c) & known
        iou[c] = float((sent & returned).sum() / (sent | returned).sum())
    return labels, iou


def joint_labels(answers: Mapping[int, tuple[Tensor, dict[int, float]]], agree: float) -> tuple[Tensor, Tensor]:
    """Labels [M] and confidence [M] of a picture from one cycle for each class.

    A class whose mask and whose ground both came back by ``agree`` has its cells, of several the one that came back
    best; a cell is background where every such cycle says so. All others are 255.
    """
    size = len(next(iter(answers.values()))[0])
    labels, sure = torch.full((size,), IGNORE), torch.zeros(size)
    ground, level, any_closed = torch.ones(size, dtype=torch.bool), 1.0, False
    for c, (found, iou) in answers.items():
        if iou.get(c, 0.0) < agree or iou.get(0, 0.0) < agree:
            continue
        any_closed, level, ground = True, min(level, iou[0]), ground & (found == 0).cpu()
        mine = (found == c).cpu() & (iou[c] > sure)
        labels[mine], sure[mine] = c, iou[c]
    if any_closed:
        labels[ground], sure[ground] = 0, level
    return labels, sure


def cycle_targets(labelled: HeadData, free: HeadData, *, agree: float, tries: int) -> Targets:
    """Targets of unlabelled pictures at ``labelled``'s detail; 255 wherever no cycle closes.

    Args:
        agree: IoU of what comes back. tries: labelled pictures of a class, the most alike, that start a cycle.
    """
    known, others = _cells(labelled, True), _cells(free, False)
    pooled = F.normalize(torch.stack([cells.vectors.mean(0) for cells in known]), dim=1)
    classes = sorted({c for cells in known for c in cells.labels.tolist()} - {0, IGNORE})
    shown = {c: [i for i, cells in enumerate(known) if bool((cells.labels == c).any())] for c in classes}
    factor = labelled.target(0)[0].shape[0] // labelled.grids[0][0]
    masks, confidence = [], []
    for cells, (h, w) in zip(others, free.grids, strict=True):
        likeness = pooled @ F.normalize(cells.vectors.mean(0), dim=0)
        answers = {}
        for c, rows in shown.items():
            nearest = [rows[i] for i in likeness[rows].topk(min(tries, len(rows))).indices.tolist()]
            runs = [cycle(known[i], cells.vectors) for i in nearest]
            answers[c] = max(runs, key=lambda run: min(run[1].get(c, 0.0), run[1].get(0, 0.0)))
        labels, sure = joint_labels(answers, agree)
        block = np.ones((factor, factor), np.float32)
        masks.append(np.kron(to_labels(labels.view(h, w).numpy()), block).astype(np.uint8))
        confidence.append(np.kron(to_bytes(sure.view(h, w).numpy()), block).astype(np.uint8))
    return Targets(masks, confidence)


def fit_cycle(course: Course, *, agree: float = 0.7, tries: int = 3) -> SegmentationHead:
    """Learn the labelled pictures and the unlabelled ones whose cycles close.

    Raises ValueError for ``agree`` outside (0, 1] or ``tries`` below 1.
    """
    if not 0 < agree <= 1 or tries < 1:
        raise ValueError(f"agree={agree}, tries={tries}; a number in (0, 1] and at least 1 are needed, for example 0.7")
    assert course.unlabelled is not None
    targets = cycle_targets(course.data, course.unlabelled, agree=agree, tries=tries)
    kept: Sequence[HeadData] = [course.data, Retargeted(course.unlabelled, targets)]
    return course.learn(course.head(), Joined(kept))


def _cells(data: HeadData, labelled: bool) -> list[Cells]:
    """Every picture's patches: unit vectors of each block joined; labels at the patches' centres."""
    made = []
    for i, grid in enumerate(data.grids):
        batch = data.batch([i], (0, i))
        features = F.normalize(batch.features[0].float(), dim=1)  # [L, D, h, w]
        vectors = F.normalize(features.flatten(0, 1).flatten(1).t(), dim=1)
        labels = at_grid(batch.labels, grid).flatten() if labelled else torch.full((len(vectors),), IGNORE)
        made.append(Cells(vectors, labels.long()))
    return made
