"""Better maps through the Segmenter: every switch does something, obeys the labels, ignores the batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clipseg_ws import Segmenter
from clipseg_ws.config import METHODS, resolve
from clipseg_ws.refine.structure import block_structure
from clipseg_ws.stages.map_steps import patch_graph, structure_layers
from clipseg_ws.structures import Seen, WeakLabels

NAMES = ["cat", "dog", "sofa"]
SWITCHES = [
    {"suppression": 0.45},
    {"structure": "both"},
    {"structure": {"kind": "similarity", "blocks": 2}},
    {"expand_shrink": True},
    {"cross_image": 0.4},
    {"saliency": 0.5},
    {"looks": {"flip": True}},
    {"looks": {"scales": [0.75, 1, 1.5], "flip": True, "doubt": 0.5}},
]
MARKS = WeakLabels(
    tags=("cat", "dog"), boxes=(("cat", 4, 4, 30, 30), ("cat", 50, 20, 51, 21)), points=(("dog", 40, 40),)
)


@pytest.fixture(scope="module")
def plain(tiny_backbone, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLIPSEG_WS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield Segmenter(backbone=tiny_backbone, attention_blocks=2, batch_size=4, keep_maps=True)


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(3)
    return [rng.integers(0, 256, shape, dtype=np.uint8) for shape in ((48, 80, 3), (48, 80, 3), (80, 48, 3))]


@pytest.mark.parametrize("switch", SWITCHES, ids=str)
def test_a_switch_changes_maps_and_obeys(plain, pictures, switch):
    better = plain.variant(**switch)
    tags = [["cat", "dog"], ["cat"], ["sofa"]]
    before, after = plain(pictures, classes=NAMES, tags=tags), better(pictures, classes=NAMES, tags=tags)
    assert np.abs(before[0].extras["maps"] - after[0].extras["maps"]).max() > 0.01
    for result, known in zip(after, tags, strict=True):
        maps = result.extras["maps"]
        assert np.isfinite(maps).all() and maps.min() >= 0 and maps.max() <= 1 + 1e-5
        assert {NAMES[v - 1] for v in np.unique(result.labels) if v} <= set(known)
    marked = better(pictures[:2], classes=NAMES, weak=[MARKS, WeakLabels(tags=())])
    labels = marked[0].labels
    inside = np.zeros(labels.shape, bool)
    inside[4:30, 4:30] = inside[20, 50] = True
    assert not (labels == 1)[~inside].any() and (labels[4:30, 4:30] == 1).any() and labels[20, 50] == 1
    assert labels[40, 40] == 2 and not marked[1].labels.any()


@pytest.mark.parametrize("switch", [s for s in SWITCHES if "cross_image" not in s], ids=str)
def test_the_batch_does_not_matter(plain, pictures, switch):
    better = plain.variant(refine="none", **switch)
    tags = [["cat", "dog"], ["cat"], ["sofa"]]
    for picture, known, together in zip(pictures, tags, better(pictures, classes=NAMES, tags=tags), strict=True):
        alone = better(picture, classes=NAMES, tags=known)
        assert np.abs(alone.extras["maps"] - together.extras["maps"]).max() < 2e-5


def test_a_group_matters_to_cross_image_only_within_a_tag(plain, pictures):
    better = plain.variant(refine="none", cross_image=0.5)
    alone = better(pictures[0], classes=NAMES, tags=["cat"]).extras["maps"]
    same = better(pictures[:2], classes=NAMES, tags=[["cat"], ["cat"]])[0].extras["maps"]
    other = better(pictures[:2], classes=NAMES, tags=[["cat"], ["dog"]])[0].extras["maps"]
    assert np.abs(alone - same).max() > 0.01 and np.abs(alone - other).max() < 2e-5


def test_looks_keep_the_cache_apart(plain, pictures):
    looks = {"scales": [1, 1.5], "flip": True}
    cached, fresh = plain.variant(cache_mb=50, looks=looks), plain.variant(looks=looks)
    want = fresh(pictures[0], classes=NAMES, tags=["cat"]).extras["maps"]
    for _ in range(2):
        got = cached(pictures[0], classes=NAMES, tags=["cat"]).extras["maps"]
        assert np.abs(got - want).max() < 1e-4
    changed = cached.variant(structure={"kind": "both", "blocks": 2})  # needs tokens that the cached entry lacks
    assert changed(pictures[0], classes=NAMES, tags=["cat"]).labels.shape == (48, 80)


def test_looks_work_without_tags(plain, pictures):
    found = plain.variant(looks={"flip": True}, presence_threshold=0.0)(pictures[0], classes=NAMES)
    assert set(found.scores) == set(NAMES) and found.setting == "zero"
    assert not plain.variant(looks={"flip": True}, presence_threshold=1.0)(pictures[0], classes=NAMES).labels.any()


def test_graph_and_layers(tiny_backbone):
    pixels = torch.randn(2, 3, 48, 64, generator=torch.Generator().manual_seed(0))
    config = resolve("default", {"structure": {"kind": "both", "blocks": 2}})
    assert structure_layers(config, tiny_backbone.depth) == (0,)
    tokens = tiny_backbone.encode(pixels, attention_blocks=2, keep_layers=(0, 1))  # 1 is for others
    classes = torch.zeros(2, 1, dtype=torch.int64)
    seen = Seen(tokens, classes, tiny_backbone.depth)
    alike = block_structure([tokens.layers[0], tokens.last_input[:, 1:]])
    attention = tokens.attention / tokens.attention.sum(-1, keepdim=True)
    assert torch.allclose(patch_graph(seen, config), (attention + alike) / 2, atol=1e-6)
    one = resolve("default", {"structure": "similarity"})
    assert structure_layers(one, 12) == ()
    assert torch.equal(patch_graph(Seen(tokens, classes), one), block_structure([tokens.last_input[:, 1:]]))
    assert patch_graph(seen, resolve("clip-es", {})) is tokens.attention


def test_the_paper_methods_stay_plain():
    for method in METHODS.keys() - {"default", "resclip"}:
        assert {spec.name for spec in resolve(method, {}).steps} <= {"affinity", "votes", "region_match"}


def test_wrong_settings():
    assert resolve("default", {"looks": 1.5}).step("looks")["scales"] == (1.5,)
    for wrong in (
        {"suppression": 1.0},
        {"saliency": 2},
        {"looks": {"doubt": -1}},
        {"looks": {"scales": []}},
        {"looks": [9]},
        {"structure": "x"},
        {"structure": "both", "affinity": False},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            resolve("default", wrong)
