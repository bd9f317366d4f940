"""Words, their vectors, the disk cache, and scores of classes: against NumPy and by counting what is encoded."""

from __future__ import annotations

import hashlib
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from clipseg_ws.structures import Vocabulary
from clipseg_ws.text.embeddings import class_scores, embed_vocabulary, select, texts
from clipseg_ws.text.vector_cache import cache_file, default_cache_dir, read_cache, write_cache
from clipseg_ws.text.vocabulary import parse_classes

WIDTH = 16


class Encoder:
    """A text tower for tests: a fixed random vector per text (of some length), and a record of what it was given."""

    def __init__(self, width: int = WIDTH, seed: str = "") -> None:
        self.width, self.seed, self.seen = width, seed, []

    def vector(self, text: str) -> np.ndarray:
        number = int.from_bytes(hashlib.sha256((self.seed + text).encode()).digest()[:4], "big")
        return np.random.default_rng(number).normal(size=self.width) * (1 + number % 5)

    def __call__(self, texts: list[str]) -> torch.Tensor:
        self.seen += texts
        return torch.tensor(np.stack([self.vector(text) for text in texts]), dtype=torch.float32)

    def word(self, word: str, templates: tuple[str, ...]) -> np.ndarray:
        """The oracle: unit vectors of the filled templates, their mean, unit length."""
        vectors = [self.vector(template.format(word)) for template in templates]
        mean = np.mean([vector / np.linalg.norm(vector) for vector in vectors], axis=0)
        return mean / np.linalg.norm(mean)


@pytest.fixture
def vocabulary() -> Vocabulary:
    return parse_classes(
        "cat; person with clothes, people, human; tv, screen", background="sky, wall", templates="imagenet7"
    )


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.exists() else []


# ---- words and vectors -----------------------------------------------------------------------------------------------


def test_texts_of_both_fusions(vocabulary):
    words, owner = texts(vocabulary)
    assert words == ["cat", "person with clothes,people,human", "tv,screen", "sky", "wall"]
    assert owner == [0, 1, 2, -1, -1]
    words, owner = texts(parse_classes(vocabulary, fusion="max"))
    assert words == ["cat", "person with clothes", "people", "human", "tv", "screen", "sky", "wall"]
    assert owner == [0, 1, 1, 1, 2, 2, -1, -1]


@pytest.mark.parametrize("fusion", ["string", "max"])
def test_vectors_against_numpy(vocabulary, fusion):
    vocabulary, encoder = parse_classes(vocabulary, fusion=fusion), Encoder()
    got = embed_vocabulary(vocabulary, encoder)
    words, owner = texts(vocabulary)
    expected = np.stack([encoder.word(word, vocabulary.templates) for word in words])
    assert got.vectors.dtype == torch.float32 and got.owner.dtype == torch.int64
    np.testing.assert_allclose(got.vectors.numpy(), expected, atol=1e-6)
    assert got.owner.tolist() == owner and got.vocabulary is vocabulary


def test_a_word_with_braces_is_taken_as_it_is():
    encoder = Encoder()
    embed_vocabulary(parse_classes(["{0}", "{}"], background=()), encoder)
    assert encoder.seen == ["a clean origami {0}.", "a clean origami {}."]


def test_half_precision_and_gradients_are_left_behind(vocabulary):
    encoder = Encoder()
    got = embed_vocabulary(vocabulary, lambda texts: encoder(texts).half().requires_grad_())
    assert got.vectors.dtype == torch.float32 and not got.vectors.requires_grad
    torch.testing.assert_close(got.vectors, embed_vocabulary(vocabulary, encoder).vectors, atol=2e-3, rtol=0)


@pytest.mark.parametrize(
    "bad",
    [
        lambda texts: torch.zeros(len(texts) - 1, WIDTH),
        lambda texts: torch.zeros(len(texts)),
        lambda texts: torch.full((len(texts), WIDTH), torch.nan),
    ],
)
def test_a_bad_encoder_is_refused_and_not_cached(vocabulary, bad, tmp_path):
    with pytest.raises(ValueError, match=r"encode_text gave .* expected \(35, E\)"):
        embed_vocabulary(vocabulary, bad, weights_key="w", cache_dir=tmp_path)
    assert files(tmp_path) == []


# ---- disk cache ------------------------------------------------------------------------------------------------------


def test_everything_is_encoded_once(vocabulary, tmp_path):
    encoder = Encoder()
    first = embed_vocabulary(vocabulary, encoder, weights_key="w", cache_dir=tmp_path)
    assert len(encoder.seen) == 5 * 7 and len(files(tmp_path)) == 1
    second = embed_vocabulary(vocabulary, None, weights_key="w", cache_dir=tmp_path)  # nothing may be encoded
    assert torch.equal(first.vectors, second.vectors) and torch.equal(first.owner, second.owner)


def test_many_words_go_in_parts_and_what_is_done_is_kept(tmp_path, monkeypatch):
    """A thousand names times eighty templates: neither all in memory, nor lost by a kill."""
    monkeypatch.setattr("clipseg_ws.text.embeddings.PROMPTS", 6)
    monkeypatch.setattr("clipseg_ws.text.embeddings.SAVE_SECONDS", 0)
    names = tuple(f"word {i}" for i in range(10))
    words = Vocabulary(names, tuple((name,) for name in names), (), templates=("a {}", "the {}"))
    whole = embed_vocabulary(words, Encoder())
    calls = []

    class Killed(Encoder):
        def __call__(self, prompts):
            calls.append(len(prompts))
            if len(calls) == 3:
                raise KeyboardInterrupt
            return super().__call__(prompts)

    with pytest.raises(KeyboardInterrupt):
        embed_vocabulary(words, Killed(), weights_key="w", cache_dir=tmp_path)
    assert calls == [6, 6, 6]
    rest = Encoder()
    again = embed_vocabulary(words, rest, weights_key="w", cache_dir=tmp_path)
    assert len(rest.seen) == 8 and torch.equal(again.vectors, whole.vectors)


def test_only_new_words_are_encoded(tmp_path):
    encoder = Encoder()
    embed_vocabulary(parse_classes("cat; dog", background=()), encoder, weights_key="w", cache_dir=tmp_path)
    encoder.seen.clear()
    more = parse_classes("sheep; dog; cat", background="sky, grass")
    got = embed_vocabulary(more, encoder, weights_key="w", cache_dir=tmp_path)
    assert encoder.seen == [f"a clean origami {word}." for word in ("sheep", "sky", "grass")]
    np.testing.assert_allclose(
        got.vectors.numpy(), embed_vocabulary(more, Encoder()).vectors.numpy(), atol=1e-6
    )  # rows in the order of the vocabulary, not of the cache
    embed_vocabulary(
        parse_classes("cat; sky", background=()), None, weights_key="w", cache_dir=tmp_path
    )  # the old words are kept


@pytest.mark.parametrize("change", ["weights", "templates", "fusion", "spelling"])
def test_what_changes_the_vector_changes_the_key(tmp_path, change):
    before, encoder = parse_classes("person, people", background=()), Encoder()
    embed_vocabulary(before, encoder, weights_key="w", cache_dir=tmp_path)
    encoder.seen.clear()
    after = {
        "weights": before,
        "templates": parse_classes(before, templates=["a photo of a {}."]),
        "fusion": parse_classes(before, fusion="max"),
        "spelling": parse_classes("Person, people", background=()),
    }[change]
    embed_vocabulary(after, encoder, weights_key="v" if change == "weights" else "w", cache_dir=tmp_path)
    assert len(encoder.seen) == len(texts(after)[0])


def test_no_key_no_cache(vocabulary, tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPSEG_WS_CACHE", str(tmp_path))
    encoder = Encoder()
    for _ in range(2):
        embed_vocabulary(vocabulary, encoder, cache_dir=tmp_path)
    assert len(encoder.seen) == 2 * 35 and files(tmp_path) == []


def test_default_folder(vocabulary, tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPSEG_WS_CACHE", str(tmp_path / "here"))
    assert default_cache_dir() == tmp_path / "here" / "text"
    embed_vocabulary(vocabulary, Encoder(), weights_key="w")
    assert len(files(tmp_path / "here" / "text")) == 1
    monkeypatch.delenv("CLIPSEG_WS_CACHE")
    assert default_cache_dir().name == "text" and "clipseg_ws" in default_cache_dir().parts


@pytest.mark.parametrize("damage", ["empty", "truncated", "noise", "header", "data", "folder"])
def test_a_broken_cache_file_is_encoded_again(vocabulary, tmp_path, damage):
    first = embed_vocabulary(vocabulary, Encoder(), weights_key="w", cache_dir=tmp_path)
    (path,) = files(tmp_path)
    good = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    else:
        content = {"empty": b"", "truncated": good[:-40], "noise": b"\xff" * 100, "header": b"\0" * 8 + good[8:]}
        path.write_bytes(content.get(damage, good[: -5 * WIDTH * 4] + b"\x7f" * (5 * WIDTH * 4)))
    encoder = Encoder()
    if damage == "folder":
        with pytest.warns(RuntimeWarning, match="are not cached"):
            got = embed_vocabulary(vocabulary, encoder, weights_key="w", cache_dir=tmp_path)
    else:
        got = embed_vocabulary(vocabulary, encoder, weights_key="w", cache_dir=tmp_path)
        again = embed_vocabulary(vocabulary, None, weights_key="w", cache_dir=tmp_path)  # healed
        assert torch.equal(again.vectors, first.vectors)
    assert len(encoder.seen) == 35 and torch.equal(got.vectors, first.vectors)
    assert files(tmp_path) == [path]  # no temporary file is left


def test_a_key_shared_by_two_towers_does_not_mix_widths(tmp_path):
    embed_vocabulary(parse_classes("cat", background=()), Encoder(8), weights_key="w", cache_dir=tmp_path)
    got = embed_vocabulary(parse_classes("cat; dog", background=()), Encoder(), weights_key="w", cache_dir=tmp_path)
    np.testing.assert_allclose(
        got.vectors.numpy(),
        embed_vocabulary(parse_classes("cat; dog", background=()), Encoder()).vectors.numpy(),
        atol=1e-6,
    )
    embed_vocabulary(parse_classes("cat; dog", background=()), None, weights_key="w", cache_dir=tmp_path)


def test_a_folder_that_cannot_be_written_is_a_warning(vocabulary, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(RuntimeWarning, match="are not cached"):
        got = embed_vocabulary(vocabulary, Encoder(), weights_key="w", cache_dir=tmp_path / "file")
    assert got.vectors.shape == (5, WIDTH)


def test_writers_at_the_same_time_leave_a_whole_file(tmp_path):
    start, failed = threading.Barrier(6), []

    def work(number: int) -> None:
        start.wait()
        try:
            for turn in range(5):
                vocabulary = parse_classes([f"thing {number} {turn}", "cat"], background=())
                got = embed_vocabulary(vocabulary, Encoder(), weights_key="w", cache_dir=tmp_path)
                expected = [Encoder().word(word, vocabulary.templates) for word in texts(vocabulary)[0]]
                np.testing.assert_allclose(got.vectors.numpy(), np.stack(expected), atol=1e-6)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed and len(files(tmp_path)) == 1
    embed_vocabulary(parse_classes("cat", background=()), None, weights_key="w", cache_dir=tmp_path)


# ---- scores ----------------------------------------------------------------------------------------------------------


def test_class_scores_is_the_maximum_over_synonyms():
    owner = [0, 1, 1, 1, 2, 2, -1, -1]
    scores = torch.randn(2, 3, 5, 8, generator=torch.Generator().manual_seed(0)) - 10  # all negative
    got = class_scores(scores, owner, 3)
    expected = np.concatenate(
        [scores[..., a:b].numpy().max(-1, keepdims=True) for a, b in ((0, 1), (1, 4), (4, 6))], -1
    )
    assert got.shape == (2, 3, 5, 3)
    np.testing.assert_array_equal(got.numpy(), expected)
    assert torch.equal(class_scores(scores[0, 0, 0], torch.tensor(owner), 3), got[0, 0, 0])
    assert class_scores(scores.bfloat16(), owner, 3).dtype == torch.bfloat16


def test_class_scores_passes_gradients_to_the_best_word_only():
    scores = torch.tensor([[0.1, 0.5, 0.2, 0.9]], requires_grad=True)
    class_scores(scores, [0, 1, 1, -1], 2).sum().backward()
    assert scores.grad.tolist() == [[1.0, 1.0, 0.0, 0.0]]


@pytest.mark.parametrize(("owner", "classes"), [([0, 1], 2), ([0, 0, -1], 2), ([0, 1, 2], 2), ([0, 2, -1], 3)])
def test_class_scores_refuses_what_does_not_fit(owner, classes):
    with pytest.raises(ValueError):
        class_scores(torch.zeros(2, 3), owner, classes)


@pytest.mark.parametrize("fusion", ["string", "max"])
def test_select(vocabulary, fusion):
    whole = embed_vocabulary(parse_classes(vocabulary, fusion=fusion), Encoder())
    part = select(whole, [2, 0])
    alone = parse_classes("tv, screen; cat", background="sky, wall", templates="imagenet7", fusion=fusion)
    assert part.vocabulary == alone
    expected = embed_vocabulary(alone, Encoder())
    torch.testing.assert_close(part.vectors, expected.vectors)
    assert torch.equal(part.owner, expected.owner)
    assert len(select(whole, []).vectors) == 2 and select(whole, torch.tensor([1])).vocabulary.names == (
        "person with clothes",
    )


@pytest.mark.parametrize("indices", [[3], [-1], [0, 0]])
def test_select_refuses_bad_indices(vocabulary, indices):
    with pytest.raises(ValueError, match="must be different and between 0 and 2"):
        select(embed_vocabulary(vocabulary, Encoder()), indices)


def test_background_words_must_be_settled():
    with pytest.raises(ValueError, match=r"does not say which words compete.*background=\(\)"):
        embed_vocabulary(parse_classes("cat; dog"), Encoder())
    assert texts(parse_classes("cat; dog")) == (["cat", "dog"], [0, 1])
    assert len(embed_vocabulary(parse_classes("cat; dog", background="none"), Encoder()).owner) == 2


def test_a_cached_vector_that_is_no_unit_vector_is_encoded_again(tmp_path):
    path = cache_file("tower", ("{}",), tmp_path)
    vector = torch.nn.functional.normalize(torch.randn(8), dim=0)
    write_cache(path, {"cat": vector, "dog": vector * 2, "cow": vector * 1.01, "owl": vector * (1 + 1e-5)})
    assert set(read_cache(path, ["cat", "dog", "cow", "owl"])) == {"cat", "owl"}


def test_two_at_once_encode_a_word_once(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    seen: list[str] = []
    vocabulary = parse_classes([f"word {number}" for number in range(40)], background=(), templates=("a {}.",))

    def encode(prompts):
        seen.extend(prompts)
        time.sleep(0.2)
        return torch.nn.functional.one_hot(torch.tensor([int(p.split()[2][:-1]) for p in prompts]), 40).float()

    def embed(_):
        return embed_vocabulary(vocabulary, encode, weights_key="k", cache_dir=tmp_path).vectors

    with ThreadPoolExecutor(3) as pool:
        first, *others = pool.map(embed, range(3))
    assert len(seen) == 40 and all(torch.equal(first, other) for other in others)
