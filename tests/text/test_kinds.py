"""General words that a model knows by their kinds: words of their own, of which the best counts."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from clipseg_ws import Segmenter
from clipseg_ws.embedded.photo.concepts import VOC
from clipseg_ws.text.embeddings import embed_vocabulary, texts
from clipseg_ws.text.kinds import with_kinds
from clipseg_ws.text.vocabulary import parse_classes

KINDS = {"animal": ["cat", "dog", "horse"], "pet": ["cat", "dog", "fish"], "tree": []}


def test_kinds_are_words_of_their_own():
    words = with_kinds(parse_classes("Animal, beast; tree; car", background=("dog", "sky")), KINDS)
    assert words.kinds == (("cat", "dog", "horse"), (), ()) and words.background == ("sky",)
    assert texts(words) == (["Animal,beast", "cat", "dog", "horse", "tree", "car", "sky"], [0, 0, 0, 0, 1, 2, -1])


def test_a_kind_that_is_a_class_stays_with_it():
    words = with_kinds(parse_classes("animal; kitty, cat; pet; car", background=()), KINDS)
    assert words.kinds == (("dog", "horse"), (), ("fish",), ())


def test_a_class_with_descriptions_and_a_model_without_kinds_are_left_as_they_are(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("classes: [{name: animal, prompts: [fur and four legs]}, pet]\nbackground: []\n")
    said = parse_classes(file)
    assert with_kinds(said, KINDS).kinds == ((), ("cat", "dog", "fish"))
    plain = parse_classes("animal; pet", background=("cat",))
    assert with_kinds(plain, {}) == plain


@given(st.lists(st.sampled_from(["animal", "pet", "cat", "dog", "fish", "tree", "car"]), min_size=1, unique=True))
def test_no_word_belongs_to_two_classes(names):
    words = with_kinds(parse_classes(names, background=("cat", "fish", "sky")), KINDS)
    rows, owner = texts(words)
    assert len({word.casefold() for word in rows}) == len(rows) == len(owner) and "sky" in rows
    assert all(name in rows for name in names)
    assert with_kinds(words, KINDS) == words  # once is enough


def test_the_vectors_follow_a_selection_of_classes():
    words = with_kinds(parse_classes("car; animal", background=("sky",)), KINDS)
    vectors = {word: torch.nn.functional.normalize(torch.randn(4), dim=0) for word in texts(words)[0]}
    found = embed_vocabulary(
        words, lambda prompts: torch.stack([next(v for w, v in vectors.items() if f" {w}." in p) for p in prompts])
    )
    assert found.owner.tolist() == [0, 1, 1, 1, 1, -1]
    assert torch.allclose(found.vectors[3], vectors["dog"], atol=1e-6)


def test_photos_general_words():
    segment = Segmenter("photo", dtype="float32")
    kinds = segment.backbone.card.kinds
    assert {"cat", "dog", "horse"} <= {*kinds["animal"]} and {"car", "bicycle"} <= {*kinds["vehicle"]}
    assert not {*kinds} & {*VOC} and max(map(len, kinds.values())) <= 16
    question = segment.ask("animal; cat")
    assert "cat" not in question.vocabulary.kinds[0] and question.vocabulary.kinds[1] == ()
    assert segment.ask("cat").vocabulary.kinds == ()
