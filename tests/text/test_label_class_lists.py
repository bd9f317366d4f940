"""Class lists as people give them, and prompts that are too long."""

from __future__ import annotations

import pytest
from label_files import write

from clipseg_ws.structures import Vocabulary
from clipseg_ws.text.embeddings import embed_vocabulary
from clipseg_ws.text.vocabulary import parse_classes


@pytest.mark.parametrize(
    "name, content",
    [
        ("c.json", ["tree", "mushroom"]),
        ("c.json", {"classes": ["tree", "mushroom"]}),
        ("c.json", {"categories": [{"id": 4, "name": "tree"}, {"id": 2, "name": "mushroom"}], "images": []}),
        ("c.json", {"names": {"0": "tree", "1": "mushroom"}}),
        ("c.csv", "tree\nmushroom\n"),
        ("c.csv", "name\ntree\n\nmushroom\n"),
        ("labels.txt", "__ignore__\n_background_\ntree\nmushroom\n"),
        ("c.txt", "tree\r\nmushroom\r\n"),
        ("obj.names", "tree\nmushroom\n"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_files(tmp_path, name, content, encoding):
    assert parse_classes(str(write(tmp_path / name, content, encoding))).names == ("tree", "mushroom")


def test_files_that_are_no_class_list(tmp_path):
    for name, content, words in (
        ("c.csv", "1,tree\n2,mushroom\n", "several columns"),
        ("c.json", "{", "not a readable class file"),
        ("c.json", "3", "no list of names"),
        ("c.xml", "<a/>", "no class file"),
    ):
        with pytest.raises(ValueError, match=rf"{name}.*{words}"):
            parse_classes(str(write(tmp_path / name, content)))
    with pytest.raises(FileNotFoundError, match=r"gone\.json"):
        parse_classes(f"{tmp_path}/gone.json")


@pytest.mark.parametrize("slip", ["vocc", "cityscape", "contex", "ade15", "coco-stuf"])
def test_names_close_to_a_known_list_ask(slip):
    with pytest.raises(ValueError, match=rf"unknown vocabulary '{slip}'; choices are .*'{slip};'"):
        parse_classes(slip)
    assert parse_classes(f"{slip};").names == (slip,)


@pytest.mark.parametrize("word", ["cat", "city", "texture", "rock", "vase", "scene", "code"])
def test_ordinary_words_are_classes(word, recwarn):
    assert parse_classes(word).names == (word,) and not recwarn


def test_commas_only_warn_by_name(recwarn):
    with pytest.warns(UserWarning, match=r"'cat, dog, cow' is one class, 'cat', with 2 synonyms; .* 'cat; dog; cow'"):
        assert parse_classes("cat, dog, cow").names == ("cat",)
    recwarn.clear()
    for said in ("person, people;", "person, people; cat", ["person, people"]):
        parse_classes(said)
    assert not recwarn


class Tower:
    """A text tower of 77 tokens, a word a token."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def tokenizer(self, texts, context_length=77):
        import torch

        rows = torch.zeros(len(texts), context_length, dtype=torch.int64)
        for row, text in zip(rows, texts, strict=True):
            tokens = [49406, *(hash(w) % 1000 + 1 for w in text.replace(",", " , ").split()), 49407][:context_length]
            row[: len(tokens)] = torch.tensor(tokens)
            row[len(tokens) - 1] = 49407
        return rows

    def embed_text(self, texts):
        import torch

        self.seen += texts
        return torch.nn.functional.one_hot(torch.tensor([len(t) % 16 for t in texts]), 16).float()


def test_synonyms_that_are_too_long_together_are_embedded_apart():
    tower, words = Tower(), tuple(f"synonym number {i}" for i in range(30))
    vocabulary = Vocabulary(
        ("thing", "cat"), (words, ("cat", "kitten")), background=(), templates=("a photo of a {}.",)
    )
    made = embed_vocabulary(vocabulary, tower.embed_text)
    assert made.owner.tolist() == [0] * 30 + [1] and "a photo of a cat,kitten." in tower.seen
    assert all(len(tower.tokenizer([text], 200)[0].nonzero()) <= 77 for text in tower.seen)


def test_a_prompt_beyond_the_tower_names_its_class():
    tower = Tower()
    for count, fine in ((70, True), (72, True), (73, False), (90, False)):  # 3 words of the template, begin and end
        vocabulary = Vocabulary(("tree",), (("tree " * count,),), background=(), templates=("a photo of {}",))
        if fine:
            embed_vocabulary(vocabulary, tower.embed_text)
        else:
            with pytest.raises(ValueError, match=r"class 'tree': the prompt 'a photo of tree.*would be cut"):
                embed_vocabulary(vocabulary, tower.embed_text)
    with pytest.raises(ValueError, match="background word 'sky"):
        embed_vocabulary(Vocabulary(("cat",), (("cat",),), background=("sky " * 90,)), tower.embed_text)


def test_the_real_tokenizer_is_asked(tiny_backbone):
    from clipseg_ws.text.lengths import cut_prompts

    fits, cut = "tree " * 75, "tree " * 76
    assert cut_prompts(tiny_backbone.embed_text, [fits, cut, "cat", "树" * 60]) == [cut, "树" * 60]
