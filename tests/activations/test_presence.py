"""Presence on planted pictures (embeddings that are known exactly), on plain loops, and on a random backbone."""

from __future__ import annotations

import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from clipseg_ws.activations.presence import (
    THRESHOLD,
    class_presence,
    competing,
    local_presence,
    presence,
    region_scores,
    smoothed,
)
from clipseg_ws.activations.textscores import best_words
from clipseg_ws.structures import TextEmbeddings, Tokens, Vocabulary

H, W, E = 6, 8, 16


class PlainLastBlock:
    """A last block that changes nothing: what enters is the embedding."""

    class_token = True

    projection = torch.eye(E)

    def ln_1(self, x):
        return x

    def qkv(self, a, grid=None):
        return (a[:, None],) * 3  # one head

    def project(self, x):
        return x[:, 0]

    def mlp(self, x):
        return x

    def ln_post(self, x):
        return x

    def embed(self, x):
        return x

    def pool(self, out, how="cls"):
        return out[:, 0] if how == "cls" else out[:, 1:].mean(1)


PlainBackbone = partial(SimpleNamespace, logit_scale=20.0, last_block=PlainLastBlock())


def vocabulary(words: list[list[str]], background: int, vectors: torch.Tensor | None = None) -> TextEmbeddings:
    """Word t has the t-th unit axis as its vector unless vectors are given."""
    names = tuple(group[0] for group in words)
    owner = [i for i, group in enumerate(words) for _ in group] + [-1] * background
    table = torch.eye(E)[: len(owner)] if vectors is None else vectors
    behind = tuple(f"ground {i}" for i in range(background))
    return TextEmbeddings(table, torch.tensor(owner), Vocabulary(names, tuple(map(tuple, words)), behind))


def picture(regions: list[tuple[int, slice, slice]], ground: int, *, attention: str = "region") -> Tokens:
    """One picture: patches carry the axis of their word; the class token is their mean; attention stays in regions."""
    index = torch.full((H, W), ground)
    for word, ys, xs in regions:
        index[ys, xs] = word
    patches = torch.eye(E)[index.flatten()]
    same = (index.flatten()[:, None] == index.flatten()).float()
    if attention == "flat":
        same = torch.ones_like(same)
    rows = 0.9 * same / same.sum(1, keepdim=True)  # the class token took a tenth
    sequence = torch.cat([patches.mean(0, keepdim=True), patches])[None]
    return Tokens(sequence, rows[None], {}, (H, W))


def together(pictures: list[Tokens]) -> Tokens:
    attention = [p.attention for p in pictures if p.attention is not None]
    return Tokens(torch.cat([p.last_input for p in pictures]), torch.cat(attention) if attention else None, {}, (H, W))


def scores_of(tokens: Tokens, text: TextEmbeddings, **options) -> torch.Tensor:
    block = SimpleNamespace(out=tokens.last_input)
    return presence(PlainBackbone(), tokens, text, block=block, **options)


FIVE = [["house"], ["tree"], ["car"], ["boat"], ["fish"]]
TWO_THINGS = [(0, slice(0, 3), slice(0, 4)), (3, slice(4, 6), slice(5, 8))]


def test_planted_classes_are_present_and_the_others_not():
    text = vocabulary(FIVE, background=2)
    tokens = together([picture(TWO_THINGS, ground=5), picture([(2, slice(1, 5), slice(2, 6))], ground=6)])
    scores = scores_of(tokens, text)
    assert scores.shape == (2, 5) and scores.dtype == torch.float32
    assert (scores >= THRESHOLD).tolist() == [[True, False, False, True, False], [False, False, True, False, False]]
    assert scores.min() >= 0 and scores.max() <= 1


def test_a_picture_of_background_only_has_no_class():
    scores = scores_of(picture([], ground=5), vocabulary(FIVE, background=2))
    assert scores.max() < 0.05


def test_background_words_compete():
    """The same patches belong to a class only as long as no background word claims them."""
    vectors = torch.eye(E)[[0, 1, 7, 8, 9, 5, 6]]
    vectors[0] = F.normalize(0.8 * torch.eye(E)[5] + 0.6 * torch.eye(E)[0], dim=0)  # "house" resembles the ground
    tokens = picture([], ground=5)
    alone = vocabulary(FIVE, background=0, vectors=vectors[:5])
    assert scores_of(tokens, alone)[0, 0] > 0.9
    assert scores_of(tokens, vocabulary(FIVE, background=2, vectors=vectors))[0, 0] < THRESHOLD


def test_an_odd_patch_is_outvoted_by_its_region():
    """One stray patch with a class's word counts as long as its attention agrees, not when its region disagrees."""
    stray = [(3, slice(2, 3), slice(3, 4))]
    text = vocabulary(FIVE, background=1)
    own = scores_of(picture(stray, ground=5), text)
    outvoted = scores_of(picture(stray, ground=5, attention="flat"), text)
    assert own[0, 3] > outvoted[0, 3] + 0.1
    assert outvoted[0, 3] < THRESHOLD


def test_results_do_not_depend_on_the_batch():
    pictures = [picture(TWO_THINGS, 5), picture([], 6), picture([(1, slice(0, 6), slice(0, 4))], 5)]
    text = vocabulary(FIVE, background=2)
    batch = scores_of(together(pictures), text)
    for i, one in enumerate(pictures):
        torch.testing.assert_close(scores_of(one, text)[0], batch[i], rtol=0, atol=1e-6)


def test_a_synonym_given_twice_changes_nothing():
    table = torch.eye(E)
    once = vocabulary(FIVE, 2, table[[0, 1, 2, 3, 4, 5, 6]])
    doubled = vocabulary(
        [["house", "house"], ["tree"], ["car"], ["boat", "boat", "boat"], ["fish"]], 2,
        table[[0, 0, 1, 2, 3, 3, 3, 4, 5, 6]],
    )  # fmt: skip
    tokens = picture(TWO_THINGS, ground=5)
    torch.testing.assert_close(scores_of(tokens, doubled), scores_of(tokens, once), rtol=0, atol=1e-6)


def test_unrelated_names_barely_move_the_scores():
    """The score means the same with 5 names and with 9: the added words fit nothing in the picture."""
    tokens = picture(TWO_THINGS, ground=5)
    table = torch.eye(E)
    few = scores_of(tokens, vocabulary(FIVE, 2, table[[0, 1, 2, 3, 4, 5, 6]]))
    many = scores_of(
        tokens, vocabulary([*FIVE, *([f"n{i}"] for i in range(4))], 2, table[[0, 1, 2, 3, 4, 10, 11, 12, 13, 5, 6]])
    )
    assert (few - many[:, :5]).abs().max() < 1e-5 and many[:, 5:].max() < THRESHOLD


def test_recurrence_gives_survivors_what_absent_classes_took():
    """A class scores higher once a look-alike is gone; the gone one keeps the score it left with."""
    table = torch.eye(E)
    vectors = table[[0, 1, 2, 3, 4, 5, 6]].clone()
    vectors[1] = F.normalize(0.9 * table[0] + 0.43 * table[1], dim=0)
    text = vocabulary(FIVE, 2, vectors)
    tokens = picture([(0, slice(0, 3), slice(0, 4))], ground=5)
    once = scores_of(tokens, text, rounds=1)
    again = scores_of(tokens, text, rounds=4, threshold=0.9)  # below 0.3 is hopeless
    assert once[0, 1] < 0.3 <= once[0, 0]
    assert again[0, 0] > once[0, 0] + 1e-3
    torch.testing.assert_close(again[0, 1:], once[0, 1:])


def test_single_name_without_background_counts_as_present():
    text = vocabulary([["house"]], background=0)
    scores = scores_of(picture([], ground=5), text)
    torch.testing.assert_close(scores, torch.ones(1, 1))
    with_ground = scores_of(picture([], ground=5), vocabulary([["house"]], 1, torch.eye(E)[[0, 5]]))
    assert with_ground[0, 0] < 0.05


def test_works_without_attention_and_refuses_no_rounds():
    tokens = picture(TWO_THINGS, ground=5)
    bare = Tokens(tokens.last_input, None, {}, tokens.grid)
    text = vocabulary(FIVE, background=2)
    assert (scores_of(bare, text) >= THRESHOLD).tolist() == (scores_of(tokens, text) >= THRESHOLD).tolist()
    with pytest.raises(ValueError, match="at least one"):
        scores_of(tokens, text, rounds=0)


# ---- the parts, against plain loops ----------------------------------------------------------------------------------


def test_competing_is_a_softmax_over_what_is_left():
    logits = torch.randn(2, 5, 2, 3, generator=torch.Generator().manual_seed(0))  # 3 classes, 2 background words
    alive = torch.tensor([[True, False, True], [False, False, False]])
    got = competing(logits, alive)
    first = logits[0, [0, 2, 3, 4]].softmax(0)
    torch.testing.assert_close(got[0, [0, 2, 3, 4]], first)
    assert got[0, 1].abs().max() == 0
    torch.testing.assert_close(got[1, 3:], logits[1, 3:].softmax(0))
    nothing = competing(logits[:, :3], torch.zeros(2, 3, dtype=torch.bool))
    assert torch.equal(nothing, torch.zeros_like(nothing))


def test_best_words_keeps_background_apart():
    logits = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))
    owner = torch.tensor([1, -1, 0, 1, -1])
    got = best_words(logits, owner, 3)
    assert torch.equal(got[:, 0], logits[:, 2])
    assert torch.equal(got[:, 1], torch.maximum(logits[:, 0], logits[:, 3]))
    assert torch.isneginf(got[:, 2]).all()
    assert torch.equal(got[:, 3:], logits[:, [1, 4]])


def test_smoothing_and_local_score_match_loops():
    generator = torch.Generator().manual_seed(1)
    maps, attention = torch.rand(2, 3, 2, 3, generator=generator), torch.rand(2, 6, 6, generator=generator)
    soft = smoothed(maps, attention)
    for b in range(2):
        for c in range(3):
            values = [float(v) for v in maps[b, c].flatten()]
            expected = []
            for n in range(6):
                row = [float(v) for v in attention[b, n]]
                expected.append(sum(r * v for r, v in zip(row, values, strict=True)) / sum(row))
            assert soft[b, c].flatten().tolist() == pytest.approx(expected, abs=1e-6)
            both = sorted(math.sqrt(x * y) for x, y in zip(values, expected, strict=True))
            score = class_presence(torch.zeros(2, 3), maps, attention, top_share=0.34, image_weight=0.0)[b, c]
            assert float(score) == pytest.approx(sum(both[-2:]) / 2, abs=1e-6)
            best_two = sum(sorted(values)[-2:]) / 2
            assert float(local_presence(maps, 0.34)[b, c]) == pytest.approx(best_two, abs=1e-6)
    assert smoothed(maps, None) is maps


def test_region_scores_classify_each_classs_own_region():
    generator = torch.Generator().manual_seed(2)
    patches = F.normalize(torch.randn(2, 2, 3, 4, generator=generator), dim=-1)
    weights = torch.rand(2, 2, 2, 3, generator=generator)
    vectors = F.normalize(torch.randn(4, 4, generator=generator), dim=-1)
    owner = torch.tensor([0, 1, 1, -1])
    alive = torch.tensor([[True, True], [False, True]])
    got = region_scores(patches, weights, vectors, owner, 7.0, alive)
    for b in range(2):
        for c in range(2):
            mean = sum(weights[b, c, y, x] * patches[b, y, x] for y in range(2) for x in range(3))
            cosine = (vectors @ (mean / mean.norm())).tolist()
            best = {0: cosine[0], 1: max(cosine[1:3]), -1: cosine[3]}
            left = {k: math.exp(7 * v) for k, v in best.items() if k < 0 or alive[b, k]}
            assert float(got[b, c]) == pytest.approx(left.get(c, 0.0) / sum(left.values()), abs=1e-5)


def test_combination_grows_with_every_signal_and_stays_in_range():
    low = torch.full((1, 1), 0.1)
    maps = torch.full((1, 1, 2, 2), 0.3)
    base = float(class_presence(low, maps, None, low))
    assert 0 <= base <= 1
    assert float(class_presence(low + 0.5, maps, None, low)) > base
    assert float(class_presence(low, maps + 0.5, None, low)) > base
    assert float(class_presence(low, maps, None, low + 0.5)) > base
    ones = torch.ones(1, 1)
    assert float(class_presence(ones, torch.ones(1, 1, 2, 2), None, ones)) == pytest.approx(1.0)


def test_a_thousand_names_on_a_random_backbone(tiny_backbone):
    """Batch invariance with real attention, and no [C, T, N] or [C, H, W] blow-up for many names."""
    generator = torch.Generator().manual_seed(3)
    vectors = F.normalize(torch.randn(1010, 32, generator=generator), dim=-1)
    names = [[f"name {i}"] for i in range(1000)]
    owner = torch.tensor([*range(1000), *[-1] * 10])
    words = Vocabulary(tuple(n[0] for n in names), tuple(map(tuple, names)), tuple(f"g{i}" for i in range(10)))
    text = TextEmbeddings(vectors, owner, words)
    pixels = torch.randn(2, 3, 48, 64, generator=generator)
    both = presence(tiny_backbone, tiny_backbone.encode(pixels, attention_blocks=2), text)
    assert both.shape == (2, 1000) and torch.isfinite(both).all()
    for i in range(2):
        alone = presence(tiny_backbone, tiny_backbone.encode(pixels[i : i + 1], attention_blocks=2), text)
        assert (alone[0] - both[i]).abs().max() < 1e-5
