"""Examples and regions: assignments against a loop, and both methods on drawn tokens and scenes."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch
import torch.nn.functional as F
from drawn import iou, scene, shown

from clipseg_ws import Segmenter
from clipseg_ws.regions.matching import consistent, gf_sam, matched_points, matcher, positive, relaxed_distance


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


@pytest.mark.parametrize("seed", range(5))
def test_points_against_every_assignment(seed):
    query, support = unit(6, 4, seed=seed), unit(7, 4, seed=seed + 50)
    inside = torch.tensor([True, False, True, False, True, False, False])
    thing = support[inside]
    best = max(permutations(range(6), 3), key=lambda way: sum(float(thing[i] @ query[j]) for i, j in enumerate(way)))
    expected = {j for j in best if inside[(support @ query[j]).argmax()]}
    assert set(matched_points(query, support, inside).nonzero().flatten().tolist()) == expected
    assert not matched_points(query, support, torch.zeros(7, dtype=torch.bool)).any()


def test_relaxed_distance_against_a_loop():
    one, two = unit(3, 4), unit(5, 4, seed=1)
    near = [min((1 - float(a @ b)) / 2 for b in two) for a in one]
    back = [min((1 - float(a @ b)) / 2 for a in one) for b in two]
    expected = max(sum(near) / 3, sum(back) / 5)
    assert float(relaxed_distance(one, two)) == pytest.approx(expected, abs=1e-6)
    assert float(relaxed_distance(one, one)) == pytest.approx(0, abs=1e-6)


def drawn_tokens():
    """A 4 x 6 query whose upper left 2 x 3 is the thing, regions: thing, two parts of the ground, and all of it."""
    thing, ground = unit(1, 8, seed=3)[0], unit(1, 8, seed=4)[0]
    mask = torch.zeros(4, 6, dtype=torch.bool)
    mask[:2, :3] = True
    clean = torch.where(mask.flatten()[:, None], thing, ground)
    query = F.normalize(clean + 0.05 * unit(24, 8, seed=5), dim=-1)
    support = F.normalize(torch.cat([thing.expand(6, -1), ground.expand(18, -1)]) + 0.05 * unit(24, 8, seed=6), dim=-1)
    inside = torch.tensor([1.0] * 6 + [0.0] * 18)
    right = torch.zeros(4, 6)
    right[:, 3:] = 1
    below = torch.zeros(4, 6)
    below[2:, :3] = 1
    share = torch.stack([mask.float(), right, below, torch.ones(4, 6)]).flatten(1)
    return query, support, inside, share


@pytest.mark.parametrize("choose", [matcher, gf_sam])
def test_the_thing_is_chosen_and_nothing_else(choose):
    query, support, inside, share = drawn_tokens()
    assert choose(query, support, inside, share, (4, 6)).tolist() == [True, False, False, False]
    order = torch.tensor([3, 1, 0, 2])
    assert choose(query, support, inside, share[order], (4, 6)).tolist() == [False, False, True, False]
    away = share[[1, 2]]  # no region of the thing
    assert not choose(query, support, inside, away, (4, 6)).any() or choose is matcher


def test_masks_grow_while_they_add_more_of_the_thing():
    margin = torch.tensor([1.0, 1, 1, -1, -1, -1])
    masks = torch.tensor([[1.0, 1, 0, 0, 0, 0], [1, 1, 1, 1, 1, 0], [1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 1, 1]])
    assert positive(masks, torch.zeros(4, dtype=torch.int64), margin).tolist() == [True, False, True, False]


def test_points_of_a_cluster_stand_by_it():
    query = F.normalize(torch.tensor([[1.0, 0], [1, 0.1], [0, 1], [0.1, 1]]), dim=-1)
    masks = torch.tensor([[1.0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]])
    clusters, points = torch.tensor([0, 0, 1, 1]), torch.arange(4)
    assert consistent(query, masks, clusters, points, (1, 4)).all()
    wrong = masks[[2, 3, 0, 1]]  # every cluster's masks look like the other's points, which lie two cells away
    assert not consistent(query, wrong, clusters, points, (2, 2)).all()


@pytest.mark.parametrize("method", ["matcher", "gf-sam"])
def test_scenes_are_answered_by_regions(method):
    segment = Segmenter("nano", method=method, regions="grow")
    kind = scene(1).tags[0]
    example = next(i for i in range(100, 400) if kind in scene(i).tags)
    result = segment(scene(1).image, classes=[kind], supports=[shown(example, kind)])
    assert iou(result.mask(kind), 1, kind) > 0.4 and result.setting == "few"
    partition = result.extras["regions"].regions.partition()
    for region in range(partition.max() + 1):
        assert len(set(result.labels[partition == region].tolist())) == 1
