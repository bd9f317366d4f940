"""Background words chosen by similarity: the rule on a made-up text space, and the door in the Segmenter."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from clipseg_ws import Segmenter
from clipseg_ws.text.background import candidate_words, choose_background, rank_background
from clipseg_ws.text.vocabulary import parse_classes

SPACE = {
    "cat": [1.0, 0, 0], "dog": [0.8, 0.6, 0], "kitten": [0.99, 0.1, 0.1], "fur": [0.7, 0.2, 0.7],
    "grass": [0.5, 0.0, 0.9], "sky": [0.1, 0.1, 1.0],
}  # fmt: skip


def encode(texts):
    return F.normalize(torch.tensor([SPACE[t.removeprefix("a clean origami ").rstrip(".")] for t in texts]), dim=-1)


def test_too_near_is_left_out_and_the_nearest_of_the_rest_are_taken():
    ranked = rank_background(
        parse_classes("cat; dog"), encode, candidates=["sky", "kitten", "fur", "grass", "cat"], count=2
    )
    assert [r.word for r in ranked] == ["kitten", "fur", "grass", "sky"]  # cat is a class itself
    assert [r.word for r in ranked if r.chosen] == ["fur", "grass"]
    assert ranked[0].nearest == "cat" and ranked[0].similarity > 0.8  # 0.8: cosine of cat and dog
    assert all(-1 <= r.similarity <= 1.001 for r in ranked)


def test_a_single_class_and_bad_counts():
    alone = rank_background(parse_classes("cat"), encode, candidates=["kitten", "grass"], count=5)
    assert [r.word for r in alone if r.chosen] == ["grass"]
    with pytest.raises(ValueError, match="count=-1"):
        rank_background(parse_classes("cat"), encode, candidates=["sky"], count=-1)


def test_candidates_are_words_of_the_lists():
    words = candidate_words()
    assert {"sky", "railway", "sands", "carpet"} <= set(words) and len(words) == len(set(words))
    assert "background" not in words and not any("-" in word for word in words)


def test_auto_in_the_call_and_in_the_configuration(tiny_backbone, monkeypatch, tmp_path):
    monkeypatch.setenv("CLIPSEG_WS_CACHE", str(tmp_path))
    segmenter = Segmenter(backbone=tiny_backbone)
    expected = choose_background(parse_classes("cat; tree", background=()), tiny_backbone.embed_text)
    assert segmenter.vocabulary("cat; tree", "auto") == expected
    assert 0 < len(expected.background) <= 25 and "tree" not in expected.background
    automatic = segmenter.variant(background="auto")
    assert automatic.vocabulary("cat; tree") == expected
    assert automatic.vocabulary("cat; tree", ["sky"]).background == ("sky",)
