"""Cycles between pictures: by loops, and pictures that only the way back keeps out."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from helpers_heads import course, toy

from clipseg_ws.heads.cycle import Cells, carried, cycle, cycle_targets, fit_cycle, joint_labels
from clipseg_ws.heads.data import ArrayData

QUICK = {"steps": 20, "batch": 4, "lr": 3e-2, "warmup": 3, "ema": 0.5, "weighting": "none"}


def picture(seed: int = 0, count: int = 12) -> Cells:
    g = torch.Generator().manual_seed(seed)
    vectors = F.normalize(torch.randn(count, 4, generator=g), dim=1)
    return Cells(vectors, torch.tensor([0, 1, 2, 255])[torch.randint(0, 4, (count,), generator=g)])


def by_loops(source: Cells, vectors: torch.Tensor) -> list[int]:
    found = sorted({int(c) for c in source.labels} - {255})
    means = {}
    for c in found:
        rows = [source.vectors[i] for i in range(len(source.labels)) if int(source.labels[i]) == c]
        total = sum(rows) / len(rows)
        means[c] = total / total.norm()
    return [max(found, key=lambda c: float(vector @ means[c])) for vector in vectors]


def test_there_and_back_by_loops():
    source, other = picture(0), picture(1).vectors
    labels, iou = cycle(source, other)
    assert carried(source, other).tolist() == labels.tolist() == by_loops(source, other)
    back = by_loops(Cells(other, labels), source.vectors)
    for c in (0, 1, 2):
        pairs = [(int(a) == c, b == c) for a, b in zip(source.labels, back, strict=True) if int(a) != 255]
        union = sum(a or b for a, b in pairs)
        assert iou[c] == pytest.approx(sum(a and b for a, b in pairs) / union)


def pictures() -> tuple[ArrayData, ArrayData]:
    """A labelled picture of a thing on ground; free ones: the same in another light, and one of nothing known, whose
    cells part along what the labelled picture does not vary in."""
    thing, ground = torch.tensor([1.0, 0, 0.3, 0]), torch.tensor([0, 1.0, 0.3, 0])
    mask = torch.tensor([[0, 0, 1, 1], [0, 0, 1, 1]])
    known = torch.where(mask[..., None] > 0, thing, ground)
    like = torch.where(mask.flip(1)[..., None] > 0, thing, ground) + torch.tensor([0, 0, 0.5, 0])
    strange = torch.tensor([0.5, 0.5, 0.2, 0]).expand(2, 4, 4).clone()
    nearer = torch.tensor([[1, 1, 0, 1], [0, 0, 1, 0]])  # by a hair to the thing; the others go far another way
    strange[..., 0] += 0.01 * (2 * nearer - 1)
    strange[..., 3] = 3.0 * (1 - nearer)
    tokens = [x.permute(2, 0, 1)[None].float() for x in (known, like, strange)]
    nothing = torch.full((2, 4), 255)
    return ArrayData(tokens[:1], [mask]), ArrayData(tokens[1:], [nothing, nothing])


def test_what_does_not_come_back_is_not_learned():
    labelled, free = pictures()
    source = Cells(F.normalize(labelled.features[0][0].flatten(1).t(), dim=1), torch.tensor([0, 0, 1, 1] * 2))
    there = carried(source, F.normalize(free.features[1][0].flatten(1).t(), dim=1))
    assert set(there.tolist()) == {0, 1}  # the way there labels the strange picture as well
    targets = cycle_targets(labelled, free, agree=0.9, tries=1)
    assert targets.labels[0].tolist() == [[1, 1, 0, 0], [1, 1, 0, 0]] and (targets.confidence[0] == 255).all()
    assert (targets.labels[1] == 255).all() and not targets.confidence[1].any()


def test_the_class_that_comes_back_best_has_the_cell():
    answers = {1: (torch.tensor([1, 1, 0, 0]), {0: 0.9, 1: 0.8}), 2: (torch.tensor([2, 0, 2, 0]), {0: 0.8, 2: 0.9}),
               3: (torch.tensor([3, 3, 3, 3]), {0: 0.9, 3: 0.2})}  # fmt: skip
    labels, sure = joint_labels(answers, 0.5)
    assert labels.tolist() == [2, 1, 2, 0] and sure.tolist() == pytest.approx([0.9, 0.8, 0.9, 0.8])
    assert joint_labels(answers, 0.95)[0].tolist() == [255] * 4


def test_a_head_learns_from_both_and_nonsense_is_refused():
    free = toy(8, seed=4, noise=0.2)
    targets = cycle_targets(toy(6, noise=0.2), free, agree=0.7, tries=2)
    pairs = [(a, b) for a, b in zip(targets.labels, free.targets.labels, strict=True)]
    right = sum(int(((a == b) & (a != 255) & (b != 255)).sum()) for a, b in pairs)
    told = sum(int(((a != 255) & (b != 255)).sum()) for a, b in pairs)
    assert told > 0 and right / told > 0.9
    lessons = course("linear", toy(6), QUICK, unlabelled=free, fit={"check": False})
    assert fit_cycle(lessons, agree=0.7, tries=2).score(toy(6, seed=2)) > 0.7
    for wrong in ({"agree": 0.0}, {"tries": 0}):
        with pytest.raises(ValueError, match="are needed"):
            fit_cycle(lessons, **wrong)
