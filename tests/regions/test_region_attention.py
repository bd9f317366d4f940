"""Attention and tokens limited to regions against loops over patches and regions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import tiny_clip

from clipseg_ws.activations.dense import dense_embeddings
from clipseg_ws.backbones.openclip import OpenClipBackbone
from clipseg_ws.regions.affinity import region_affinity
from clipseg_ws.regions.attention import (
    cell_regions,
    corrclip_embeddings,
    local_patches,
    merged,
    region_attention,
    region_tokens,
    textregion_embeddings,
)
from clipseg_ws.regions.region_set import RegionSet


def seeded(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def quarters(height: int = 64, width: int = 96, rest: int = -1) -> RegionSet:
    labels = np.zeros((height, width), np.int64)
    labels[:, width // 2 :] += 1
    labels[height // 2 :] += 2
    return RegionSet.from_labels(labels, rest)


def slow_merged(features, owners, eps):
    ids = sorted(set(owners.tolist()))
    unit = F.normalize(features, dim=-1)
    means = {i: F.normalize(unit[owners == i].mean(0), dim=0) for i in ids}
    group = {i: i for i in ids}
    changed = True
    while changed:
        changed = False
        for a in ids:
            for b in ids:
                if group[a] != group[b] and 1 - float(means[a] @ means[b]) <= eps:
                    old = group[b]
                    group = {i: group[a] if g == old else g for i, g in group.items()}
                    changed = True
    return [group[int(o)] for o in owners]


@pytest.mark.parametrize("eps", [0.0, 0.2, 0.6, 2.0])
def test_attention_against_a_loop(eps):
    features = seeded(2, 5, 4, 6) + 0.7
    owners = torch.randint(-1, 5, (2, 24), generator=torch.Generator().manual_seed(1))
    got = region_attention(features, owners, sharpness=4.0, eps=eps)
    for row in range(2):
        cells = features[row].flatten(1).t()
        groups = slow_merged(cells, owners[row], eps)
        unit = F.normalize(cells, dim=-1)
        for i in range(24):
            weights = [math.exp(4 * float(unit[i] @ unit[j])) if groups[i] == groups[j] else 0.0 for j in range(24)]
            expected = torch.tensor(weights) / sum(weights)
            assert torch.allclose(got[row, i], expected, atol=1e-5)
    assert torch.allclose(got.sum(-1), torch.ones(2, 24))


def test_chains_of_like_regions_are_merged():
    angles = torch.tensor([0.0, 0.5, 1.0, 2.5])
    features = torch.stack([angles.cos(), angles.sin()], 1)
    assert merged(features, torch.arange(4), 0.2).tolist() == [0, 0, 0, 1]  # 1 - cos 0.5 = 0.12, 1 - cos 1 = 0.46
    assert merged(features, torch.arange(4), 0.05).unique().numel() == 4


def test_region_tokens_against_a_loop():
    query, keys, values = seeded(2, 3, 1, 4), seeded(2, 3, 10, 4, seed=1), seeded(2, 3, 10, 4, seed=2)
    owners = torch.tensor([[0, 0, 1, 1, 1, -1, -1, 2, 2, 2], [3] * 10])
    got = region_tokens(query, keys, values, owners)
    for b in range(2):
        for n in range(10):
            mine = owners[b] == owners[b, n]
            for head in range(3):
                weights = (keys[b, head, mine] @ query[b, head, 0] / 2).softmax(0)
                assert torch.allclose(got[b, head, n], weights @ values[b, head, mine], atol=1e-5)


def test_cells_belong_to_what_has_most_of_them():
    labels = np.full((4, 6), -1)
    labels[:, :2], labels[:3, 2:] = 0, 1
    regions = RegionSet.from_labels(labels)
    assert cell_regions(regions, (2, 3)).tolist() == [0, 1, 1, 0, 1, 1]
    assert cell_regions(regions, (4, 3)).tolist() == [0, 1, 1, 0, 1, 1, 0, 1, 1, 0, -1, -1]


@pytest.fixture(scope="module")
def clip():
    backbone = OpenClipBackbone(tiny_clip())
    pixels = seeded(2, 3, 4 * backbone.patch_size, 6 * backbone.patch_size)
    return backbone, backbone.encode(pixels, attention_blocks=0, keep_layers=range(backbone.depth - 1))


def test_corrclip_with_one_region_is_plain_attention(clip):
    """One region, no additions: the softmax over all patches; several: nothing flows from one to another."""
    backbone, tokens = clip
    features, last = seeded(2, 5, 4, 6, seed=3), backbone.last_block
    whole = [RegionSet.from_labels(np.zeros((64, 96), int))] * 2
    got = corrclip_embeddings(backbone, tokens, features, whole, low=0, token=0)
    unit = F.normalize(features.flatten(2), dim=1).transpose(1, 2)
    attention = (4 * unit @ unit.transpose(1, 2)).softmax(-1)
    _, _, v = last.qkv(last.ln_1(tokens.last_input), tokens.grid)
    expected = F.normalize(last.embed(last.project(attention[:, None] @ v[:, :, 1:])), dim=-1)
    assert torch.allclose(got.flatten(1, 2), expected, atol=1e-5)
    full = corrclip_embeddings(backbone, tokens, features, whole)
    assert full.shape == (2, 4, 6, backbone.embed_dim) and not torch.allclose(full, got, atol=1e-3)
    parts = corrclip_embeddings(backbone, tokens, features, [quarters()] * 2, eps=0.0, low=0, token=0)
    alone = corrclip_embeddings(backbone, tokens, features, [quarters()] * 2, eps=0.0, low=0, token=0, sharpness=1e-6)
    mean = last.project(v[:, :, 1:].unflatten(2, (4, 6))[:, :, :2, :3].flatten(2, 3).mean(2, keepdim=True))
    assert torch.allclose(alone[:, 0, 0], F.normalize(last.embed(mean), dim=-1)[:, 0], atol=1e-4)
    assert not torch.allclose(parts, got, atol=1e-3)
    with pytest.raises(ValueError, match="1 sets of regions for 2 pictures"):
        corrclip_embeddings(backbone, tokens, features, whole[:1])


def test_textregion_tokens_against_a_loop(clip):
    backbone, tokens = clip
    last = backbone.last_block
    masks = np.zeros((3, 64, 96), bool)
    masks[0, :32, :48], masks[1, 16:, 40:], masks[2, 5:9, 5:9] = True, True, True
    regions = RegionSet.from_masks(masks, (64, 96))
    got = textregion_embeddings(backbone, tokens, [regions] * 2, difference=-2.0)
    share = torch.from_numpy(masks.reshape(3, 4, 16, 6, 16).mean((2, 4), dtype=np.float64)).float().flatten(1)
    own = dense_embeddings(backbone, tokens, "maskclip").flatten(1, 2)
    _, _, v = last.qkv(last.ln_1(tokens.last_input), tokens.grid)
    for b in range(2):
        made = []
        for r in range(3):
            pooled = sum(share[r, n] * v[b, :, 1 + n] for n in range(24)) / share[r].sum()
            made.append(F.normalize(last.embed(last.project(pooled[None, :, None])), dim=-1)[0, 0])
        for n in range(24):
            left = max(0.0, 1 - float(share[:, n].sum()))
            mixed = sum(share[r, n] * made[r] for r in range(3)) + left * own[b, n]
            assert torch.allclose(got[b].flatten(0, 1)[n], F.normalize(mixed, dim=0), atol=1e-4)
    none = RegionSet.from_masks([], (64, 96))
    assert torch.allclose(textregion_embeddings(backbone, tokens, [none] * 2).flatten(1, 2), own, atol=1e-5)


def test_global_patches_are_left_out():
    values = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0], [1.0, 1.0]])
    share = torch.tensor([[1.0, 1, 0, 0, 1], [0, 0, 1, 1, 0]])
    assert local_patches(values, share, 0.07).tolist() == [1, 1, 1, 1, 0 if _fit(values, share, 4) < 0.07 else 1]
    assert local_patches(values, share[:1], 0.07).tolist() == [1.0] * 5  # no other region to compare with


def _fit(values, share, n):
    unit = F.normalize(values, dim=-1)
    mine = np.mean([float(unit[n] @ unit[m]) for m in range(5) if share[0, m]])
    others = np.mean([float(unit[n] @ unit[m]) for m in range(5) if share[1, m]])
    return mine - others


def test_affinity_between_regions_against_a_loop():
    regions = quarters(8, 12)
    maps, patches = torch.rand(2, 3, 4, 6, generator=torch.Generator().manual_seed(4)), seeded(2, 24, 7, seed=5)
    got = region_affinity(maps, patches, [regions] * 2, weight=1.0, sharpness=3.0)
    owner = torch.from_numpy(regions.partition()[::2, ::2].astype(np.int64)).flatten()
    for b in range(2):
        centred = patches[b] - patches[b].mean(0)
        means = F.normalize(torch.stack([centred[owner == r].mean(0) for r in range(4)]), dim=-1)
        scores = torch.stack([maps[b].flatten(1)[:, owner == r].mean(1) for r in range(4)])  # [n, K]
        for r in range(4):
            weights = torch.tensor([math.exp(3 * float(means[r] @ means[s])) for s in range(4)])
            expected = (weights[:, None] * scores).sum(0) / weights.sum()
            assert torch.allclose(got[b].flatten(1)[:, owner == r], expected[:, None], atol=1e-5)
    none = RegionSet.from_masks([], (8, 12))
    assert torch.allclose(region_affinity(maps, patches, [none] * 2, weight=0.5), maps)
    half = region_affinity(maps, patches, [regions] * 2, weight=0.5, sharpness=3.0)
    assert torch.allclose(half, (maps * got).sqrt(), atol=1e-5)
