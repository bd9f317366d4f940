"""The token cache: what differs is told apart, bytes are bounded, and nobody can tell an answer out of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from clipseg_ws.config import resolve
from clipseg_ws.segmenter import Segmenter
from clipseg_ws.stages.cache import TokenCache, size_of
from clipseg_ws.stages.encoder import Encoder
from clipseg_ws.structures import Support


def encoder(backbone, cache=None, **given) -> Encoder:
    """An encoder whose cache has room, with what it needs for attention of two blocks."""
    config = resolve("cam", {"attention_blocks": 2, "cache_mb": 50} | given)
    positioned = backbone.with_positions(config.position_interpolation)
    return Encoder(positioned, None, config, TokenCache() if cache is None else cache)


def draw(height: int, width: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def encoded(made: Encoder, *images: Image.Image, look=(1.0, False), **how):
    return made.clip(made.pixels([made.picture(image) for image in images], look), **how)


def test_the_cache_tells_apart_what_differs(tiny_backbone):
    cache, picture = TokenCache(), draw(32, 48)
    encoded(encoder(tiny_backbone, cache), picture)
    encoded(encoder(tiny_backbone, cache, alpha=2.0), picture.copy())
    assert len(cache) == 1 and cache.runs == 1
    changes = (
        {"short_side": 64}, {"attention_blocks": 1}, {"position_interpolation": "bicubic"},
        {"affinity": True, "structure": {"kind": "both", "blocks": 2}},
    )  # fmt: skip
    for count, given in enumerate(changes, start=2):
        encoded(encoder(tiny_backbone, cache, **given), picture)
        assert len(cache) == count
    encoded(encoder(tiny_backbone, cache), picture, look=(1.0, True))
    encoded(encoder(tiny_backbone, cache), picture, attention=False)
    assert len(cache) == 7 == cache.runs


def test_the_cache_is_limited_by_bytes_and_batches_stay_whole(tiny_backbone):
    cache = TokenCache()
    tokens = encoded(encoder(tiny_backbone), draw(32, 48))
    one = size_of(tokens)

    def encode(missing):
        return encoded(encoder(tiny_backbone, cache_mb=0), *[draw(32, 48, i) for i in missing])

    batch = cache.fetch(["a", "b", "c", "a"], encode, capacity=2 * one)
    assert len(batch.last_input) == 4 and torch.equal(batch.last_input[0], batch.last_input[3])
    assert len(cache) == 2 and cache.runs == 1
    cache.fetch(["c"], encode, capacity=2 * one)
    assert cache.runs == 1
    cache.fetch(["b"], encode, capacity=0)
    assert len(cache) == 0


def test_tokens_from_the_cache_are_those_of_the_network(tiny_backbone):
    cache = TokenCache()
    made = encoder(tiny_backbone, cache, steps="affinity, structure(blocks=2)")
    plain = encoder(tiny_backbone, cache_mb=0)
    pictures = [draw(32, 48, seed) for seed in range(3)]
    single = [encoded(made, picture) for picture in pictures]
    assert cache.runs == 3 and single[0].grid == (2, 3) and single[0].layers
    expected = encoded(plain, pictures[1])
    assert torch.equal(single[1].last_input, expected.last_input)
    assert torch.equal(single[1].attention, expected.attention)
    mixed = encoded(made, pictures[2], draw(32, 48, 7), *pictures, draw(32, 48, 7))  # known, new, known, new again
    assert cache.runs == 4 and len(cache) == 4
    for row, one in enumerate([single[2], None, *single, None]):
        if one is not None:
            assert torch.equal(mixed.last_input[row], one.last_input[0])
            assert all(torch.equal(mixed.layers[i][row], layer[0]) for i, layer in one.layers.items())
    assert torch.equal(mixed.last_input[1], mixed.last_input[5])
    assert encoded(made, pictures[0], attention=False).attention is None and cache.runs == 5


def test_runs_are_counted_without_a_cache_too(tiny_backbone):
    made = Segmenter(backbone=tiny_backbone, method="cam", attention_blocks=2)
    assert made.encoder_runs == 0
    made([draw(32, 48), draw(32, 48, 1)], classes="cat; dog")
    assert made.encoder_runs == 1
    made.variant(alpha=2.0)(draw(32, 48), classes="cat; dog")
    assert made.encoder_runs == 2


@pytest.fixture(scope="module")
def examples():
    """Two of one size and one of another."""
    mask = np.zeros((32, 48), np.uint8)
    mask[8:24, 8:30] = 1
    shown = [Support(draw(32, 48, seed), mask, "cat") for seed in (5, 6)]
    return [*shown, Support(draw(48, 48, 8), np.pad(mask, ((0, 16), (0, 0))), "dog")]


def test_variants_and_examples_are_not_encoded_again(tiny_backbone, examples):
    made = Segmenter(backbone=tiny_backbone, attention_blocks=2, cache_mb=50)
    first = made(draw(32, 48), classes="cat; dog", supports=examples)
    assert made.encoder_runs == 3  # the picture, and the examples' two sizes
    again = made(draw(32, 48), classes="cat; dog", supports=examples[:2])
    other = made.variant(alpha=2.0, steps="none", refine="none")
    other(draw(32, 48), supports=examples)
    made.bank([examples[2], examples[0]])
    assert other.encoder_runs == made.encoder_runs == 3 and again.names == first.names
    made.bank([Support(draw(32, 48, 9), examples[0].mask, "cat"), *examples])
    assert made.encoder_runs == 4


def test_a_bank_is_the_same_with_and_without_the_cache(tiny_backbone, examples):
    plain, cached = (Segmenter(backbone=tiny_backbone, attention_blocks=2, cache_mb=mb) for mb in (0, 50))
    for one, two in zip(plain.bank(examples).entries, cached.bank(examples).entries, strict=True):
        assert one.label == two.label and torch.equal(one.features["input"], two.features["input"])
    asked = {"classes": "cat; dog", "supports": examples}
    one, two = plain(draw(32, 48), **asked), cached(draw(32, 48), **asked)
    assert np.array_equal(one.labels, two.labels) and one.scores == two.scores


def test_texts_of_old_questions_do_not_pile_up(tiny_backbone, monkeypatch, tmp_path):
    monkeypatch.setenv("CLIPSEG_WS_CACHE", str(tmp_path))
    monkeypatch.setattr("clipseg_ws.stages.texts.KEPT", 3)
    made = Segmenter(backbone=tiny_backbone, method="cam", attention_blocks=2)
    questions = [made.ask(f"thing {i}", background=()) for i in range(5)]
    assert len(made._models.texts) == 3 and len(made._models.tokens) == 0
    assert made.answer(questions[0], [draw(32, 48)])[0].names == ("thing 0",)
