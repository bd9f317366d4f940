"""Maps against slow, independent ways to the same number, and the rules at their very borders."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from conftest import tiny_clip

from clipseg_ws.activations.alignment import check_alignment
from clipseg_ws.activations.correlated import block_input, intra_correlation, needed_layers
from clipseg_ws.activations.crossimage import unit_patches
from clipseg_ws.activations.crossref import channel_gates
from clipseg_ws.activations.dense import MODES, dense_features
from clipseg_ws.activations.fusion import two_pass_embeddings
from clipseg_ws.activations.last_block import forward_last_block, pool_embedding
from clipseg_ws.activations.multiscale import resized
from clipseg_ws.activations.online import Seeds, blend, classify_online, find_seeds, support_moments
from clipseg_ws.activations.parts import kmeans
from clipseg_ws.activations.presence import class_presence, local_presence, presence
from clipseg_ws.activations.suppress import own_words
from clipseg_ws.activations.textscores import class_labels, drop_small_classes
from clipseg_ws.backbones.openclip import OpenClipBackbone
from clipseg_ws.structures import TextEmbeddings, Vocabulary


@pytest.fixture(scope="module")
def backbone():
    return OpenClipBackbone(tiny_clip(layers=5))


@pytest.fixture(scope="module")
def tokens(backbone):
    pixels = torch.randn(2, 3, 48, 64, generator=torch.Generator().manual_seed(0))
    return backbone.encode(pixels, attention_blocks=3, keep_layers=(0, 1, 2, 3))


def attention_by_hand(left, right):
    """[B, heads, N, d] each -> [B, N, N], entry by entry: softmax over patches, mean over heads."""
    batch, heads, n, d = left.shape
    out = torch.zeros(batch, n, n)
    for b in range(batch):
        for head in range(heads):
            for i in range(n):
                logits = [float(left[b, head, i] @ right[b, head, j]) / math.sqrt(d) for j in range(n)]
                total = sum(math.exp(v - max(logits)) for v in logits)
                out[b, i] += torch.tensor([math.exp(v - max(logits)) / total for v in logits]) / heads
    return out


def test_intra_correlation_is_the_mean_of_three(backbone, tokens):
    assert needed_layers((3, 4), 5) == (2,)
    want = torch.zeros(2, 12, 12)
    for block in (3, 4):
        q, k, v = backbone.block_qkv(block, block_input(backbone, tokens, block))
        for one in (q, k, v):
            want += attention_by_hand(one, one) / 6
    assert torch.allclose(intra_correlation(backbone, tokens, (3, 4)), want, atol=1e-5)


@pytest.mark.parametrize("weight", [0.3, 0.5])
def test_a_mixture_keeps_the_total_of_sclips_rows(backbone, tokens, weight):
    """Two softmaxes are added, so a row adds up to 2, and so does the share of the other attention."""
    mix = torch.rand(2, 12, 12).softmax(-1)
    last = backbone.last_block
    q, k, v = last.qkv(last.ln_1(tokens.last_input))
    own = sum(F.softmax(x[:, :, 1:] @ x.transpose(-2, -1) / x.shape[-1] ** 0.5, -1) @ v for x in (q, k))
    total = (1 - weight) * own + weight * 2 * (mix[:, None] @ v[:, :, 1:])
    keeps = MODES["sclip"].keep_block
    out = last.project(total)
    want = last.embed(last.mlp(tokens.last_input[:, 1:] + out) if keeps else out)
    got = dense_features(backbone, tokens, "sclip", mix=mix, mix_weight=weight)
    assert torch.allclose(got, want, atol=1e-4)


def test_two_passes_take_the_sum_of_the_layers(backbone, tokens):
    summed = sum(tokens.layers[i] for i in (1, 2, 3))
    other = replace(tokens, last_input=torch.cat([tokens.last_input[:, :1], summed], 1), last=None)
    parts = [dense_features(backbone, one, "clip") for one in (tokens, other)]
    want = F.normalize(parts[0] + parts[1], dim=-1).unflatten(1, (3, 4))
    assert torch.allclose(two_pass_embeddings(backbone, tokens, "clip", layers=(1, 2, 3)), want, atol=1e-5)


def test_what_all_patches_share_is_taken_off():
    x = torch.randn(2, 6, 5)
    centred = torch.stack([row - row.mean(0) for row in x])
    assert torch.allclose(unit_patches(x), centred / centred.norm(dim=-1, keepdim=True), atol=1e-5)


def test_gates_are_of_the_mean_patch():
    shown, query = torch.randn(3, 7), torch.randn(2, 7, 2, 3)
    got = channel_gates(shown, query)
    for b in range(2):
        mean = torch.stack([query[b, :, y, x] for y in range(2) for x in range(3)]).mean(0)
        for k in range(3):
            pair = [(v - v.mean()) / (v.var(unbiased=False) + 1e-5).sqrt() for v in (mean, shown[k])]
            assert torch.allclose(got[b, k], torch.sigmoid(pair[0]) * torch.sigmoid(pair[1]), atol=1e-5)


def test_a_class_that_the_query_lacks_aligns_with_nothing():
    """Its prototype is zero and may still lie nearer than the background's: that is no IoU."""
    query = torch.zeros(1, 2, 1, 2)
    query[:, 0] = 1  # all of the query is background, along the first axis
    support = torch.zeros(1, 2, 1, 2)
    support[:, 0] = -1  # the support is the opposite of it
    ones, none = torch.ones(1, 1, 2), torch.zeros(1, 1, 2)
    found = check_alignment(
        query, torch.zeros(1, 1, 2, dtype=torch.int64), support, ones, none, torch.tensor([0]), count=1
    )
    assert not found.present.any() and found.iou.item() == 0


def test_shrinking_is_antialiased():
    maps = torch.rand(1, 2, 12, 16)
    for size in [(5, 7), (12, 7), (5, 16)]:
        want = F.interpolate(maps, size=size, mode="bilinear", align_corners=False, antialias=True)
        assert torch.allclose(resized(maps, size), want)
    checks = torch.zeros(1, 1, 8, 8)
    checks[..., ::2, ::2] = 1
    assert torch.allclose(resized(checks, (2, 2)), torch.tensor(0.25), atol=0.04)


def test_seeds_begin_at_their_limits():
    maps = torch.tensor([0.75, 0.74, 0.5, 0.51]).view(1, 1, 1, 4)
    seeds = find_seeds(maps, sure=0.75, unsure=0.5)
    assert seeds.foreground.tolist() == [[[1, 0, 0, 0]]] and seeds.background.tolist() == [[0, 0, 1, 0]]


def test_a_class_without_seeds_keeps_the_supports_prototype():
    shown = F.normalize(torch.randn(2, 4), dim=-1)
    query = torch.stack([torch.stack([F.normalize(torch.randn(4), dim=-1), torch.zeros(4)])])
    got = blend(shown * 3, query, 0.4)
    assert torch.allclose(got[0, 1], shown[1], atol=1e-6)
    assert torch.allclose(got[0, 0], F.normalize(0.6 * shown[0] + 0.4 * query[0, 0], dim=-1), atol=1e-6)
    short = blend(shown, torch.full((1, 2, 4), 0.0), 1.0)
    assert torch.allclose(short[0], shown, atol=1e-6)


def test_a_query_counts_only_with_both_sides():
    cells = torch.randn(30, 6, generator=torch.Generator().manual_seed(1))
    foreground = (torch.arange(30) < 12).float()[None]
    moments = support_moments(cells, foreground, 1 - foreground)
    features = torch.randn(1, 6, 2, 5, generator=torch.Generator().manual_seed(2))
    alone = classify_online(features, Seeds(torch.zeros(1, 1, 10), torch.zeros(1, 10)), moments, query_share=0.5)
    for seeds in (Seeds(torch.ones(1, 1, 10), torch.zeros(1, 10)), Seeds(torch.zeros(1, 1, 10), torch.ones(1, 10))):
        assert torch.allclose(classify_online(features, seeds, moments, query_share=0.5), alone, atol=1e-6)
    half = (torch.arange(10) < 5).float()
    both = classify_online(features, Seeds(half[None, None], 1 - half[None]), moments, query_share=0.5)
    assert not torch.allclose(both, alone, atol=1e-3)


def test_the_third_centre_is_far_from_both_before():
    angles = torch.tensor([0.0, 100.0, -10.0, 50.0]).deg2rad()
    points = torch.stack([angles.cos(), angles.sin()], -1)[None]
    centres = kmeans(points, torch.tensor([[100.0, 1, 1, 1]]), 3, iterations=0)
    assert torch.allclose(centres[0], points[0, [0, 1, 3]], atol=1e-6)


@pytest.mark.parametrize(("count", "best"), [(1000, 5), (700, 4), (300, 2), (100, 1), (10, 1), (1, 1)])
def test_a_class_stands_for_half_a_percent_of_its_patches(count, best):
    values = torch.rand(1, 1, 1, count)
    want = values.flatten().sort(descending=True).values[:best].mean()
    assert local_presence(values).item() == pytest.approx(want.item())


def test_the_score_is_three_parts_local_and_one_part_image():
    image, region = torch.rand(2, 3), torch.rand(2, 3)
    maps = torch.rand(2, 3, 10, 10)
    local = (maps.flatten(2).amax(2) * region).sqrt()
    assert torch.allclose(class_presence(image, maps, None, region), (3 * local + image) / 4, atol=1e-6)


def slow_presence(backbone, tokens, text):
    """One round, picture by picture: image, local and region signal written out."""
    block = forward_last_block(backbone, tokens.last_input, tokens.last)
    pooled = [F.normalize(pool_embedding(backbone, block.out, pool), dim=-1) for pool in ("cls", "patch")]
    patches = F.normalize(dense_features(backbone, tokens, "maskclip").float(), dim=-1)
    scale, count = backbone.logit_scale, int(text.owner.max()) + 1
    rows = [torch.nonzero(text.owner == c).flatten().tolist() for c in range(count)]
    rows += [[t] for t in torch.nonzero(text.owner < 0).flatten().tolist()]

    def probabilities(vector):
        return torch.stack(
            [torch.stack([scale * vector @ text.vectors[t] for t in own]).max() for own in rows]
        ).softmax(0)

    scores = torch.zeros(len(patches), count)
    for b in range(len(patches)):
        whole = torch.maximum(*[probabilities(one[b]) for one in pooled])
        local = torch.stack([probabilities(p) for p in patches[b]])  # [N, C+G]
        attention = tokens.attention[b] / tokens.attention[b].sum(-1, keepdim=True)
        smooth = attention @ local
        for c in range(count):
            region = F.normalize((smooth[:, c] ** 2) @ patches[b], dim=-1)
            best = (local[:, c] * smooth[:, c]).sqrt().max()  # the best of 12 patches
            scores[b, c] = 0.25 * whole[c] + 0.75 * (best * probabilities(region)[c]).sqrt()
    return scores


def test_presence_written_out(backbone, tokens):
    generator = torch.Generator().manual_seed(4)
    vectors = F.normalize(torch.randn(6, backbone.embed_dim, generator=generator), dim=-1)
    words = Vocabulary(("a", "b", "c"), (("a", "aa"), ("b",), ("c",)), ("x", "y"))
    text = TextEmbeddings(vectors, torch.tensor([0, 0, 1, 2, -1, -1]), words)
    got = presence(backbone, tokens, text, rounds=1)
    assert torch.allclose(got, slow_presence(backbone, tokens, text), atol=1e-4)


def test_own_words_begin_at_their_share():
    assert own_words(torch.tensor([[0.5, 0.25, 0.24]]), share=0.5).tolist() == [[1, 1, 0]]


def test_small_classes_and_low_probabilities_at_their_limits():
    winners = torch.tensor([1, 1, 1, 2, 0, 0])
    probabilities = F.one_hot(winners, 3).t().float().view(1, 3, 2, 3)
    kept = drop_small_classes(probabilities, 0.25)  # class 2 has a quarter of the foreground: not more than that
    assert not kept[0, 2].any() and torch.equal(kept[:, :2], probabilities[:, :2])
    assert drop_small_classes(probabilities, 0.24)[0, 2].any()
    best = torch.tensor([[0.0, 0.5], [0.0, 0.49]]).t().view(1, 2, 1, 2)
    assert class_labels(best, 0.5).tolist() == [[[1, 0]]]
