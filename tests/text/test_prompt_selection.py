"""Sharpness against its formula in NumPy, on cases whose answer is known, and the ranking."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clipseg_ws.text.embeddings import texts
from clipseg_ws.text.sharpness import rank_templates, sharpness
from clipseg_ws.text.vocabulary import parse_classes


def by_formula(images, words, scale, owner, tags):
    """sum of variances over sum of means, image by image, written out in float64."""
    images, words = images.double().numpy(), words.double().numpy()
    above = below = 0.0
    for image, present in zip(images, tags, strict=True):
        used = [t for t, own in enumerate(owner) if own in present or own == -1]
        cosine = words[used] @ image / np.linalg.norm(words[used], axis=1) / np.linalg.norm(image)
        score = np.exp(scale * cosine) / np.exp(scale * cosine).sum()
        s = [max(score[used.index(t)] for t in used if owner[t] == c) for c in present]
        above, below = above + np.var(s), below + np.mean(s)
    return above / below


@pytest.fixture
def case():
    random = torch.Generator().manual_seed(1)
    images = torch.randn(4, 12, generator=random)
    return images, [torch.randn(7, 12, generator=random) for _ in range(3)], [0, 0, 1, 2, 2, -1, -1]


@pytest.mark.parametrize("scale", [1.0, 20.0, 100.0])
def test_against_the_formula(case, scale):
    images, words, owner = case
    tags = [[0, 2], [1], [0, 1, 2], [2, 1]]
    got = sharpness(images, words, scale, owner=owner, tags=tags)
    np.testing.assert_allclose(got, [by_formula(images, w, scale, owner, tags) for w in words], rtol=1e-5)
    everything = [[0, 1, 2]] * 4
    expected = [by_formula(images, w, scale, owner, everything) for w in words]
    np.testing.assert_allclose(sharpness(images, words, scale, owner=owner), expected, rtol=1e-5)
    mixed = sharpness(images, words, scale, owner=owner, tags=[[0, 2], None, [0, 1, 2], [2, 1]])
    expected = [by_formula(images, w, scale, owner, [[0, 2], [0, 1, 2], [0, 1, 2], [2, 1]]) for w in words]
    np.testing.assert_allclose(mixed, expected, rtol=1e-5)


def test_one_row_a_class_without_owner_and_half_precision(case):
    images, words, _ = case
    rows = words[0][:3]
    expected = by_formula(images, rows, 100.0, [0, 1, 2], [[0, 1, 2]] * 4)
    assert sharpness(images, [rows])[0] == pytest.approx(expected, rel=1e-5)
    assert sharpness(images * 7, [rows * 3])[0] == pytest.approx(expected, rel=1e-5)
    expected = by_formula(images.half(), rows.half(), 100.0, [0, 1, 2], [[0, 1, 2]] * 4)
    assert sharpness(images.half(), [rows.half()])[0] == pytest.approx(expected, rel=1e-5)


def test_known_answers():
    x, y = torch.eye(2)
    image = (x + y)[None]
    even, one_wins = torch.stack([x, y]), torch.stack([x + y, x - y])
    got = sharpness(image, [even, one_wins])
    assert got[0] == pytest.approx(0, abs=1e-12)  # both classes score 1/2
    assert got[1] == pytest.approx(0.5)  # scores 1 and 0: variance 1/4, mean 1/2


def test_background_that_wins_everything_still_gives_a_number():
    x, y = torch.eye(2)
    words = torch.stack([-x, (0.1 * y - x), x])
    value = sharpness(x[None], [words], owner=[0, 1, -1])[0]
    assert np.isfinite(value) and value >= 0


def test_tags_change_the_answer_as_in_the_paper():
    """The absent third class wins over both present ones: only the tags show that these two are alike."""
    x, y, z = torch.eye(3)
    image = (x + y + 2 * z)[None]
    words = torch.stack([x, y, z])
    assert sharpness(image, [words], 20.0, tags=[[0, 1]])[0] == pytest.approx(0, abs=1e-9)
    assert sharpness(image, [words], 20.0)[0] > 0.1


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ([[0], [1], [2], [0]], "no image has two candidate classes"),
        ([[0, 1]], "tags of 1 images for 4"),
        ([[0, 1], [], None, None], "tags of image 1"),
        ([[0, 3], None, None, None], "tags of image 0"),
    ],
)
def test_bad_tags(case, tags, message):
    images, words, owner = case
    with pytest.raises(ValueError, match=message):
        sharpness(images, words, owner=owner, tags=tags)


def test_bad_shapes(case):
    images, words, owner = case
    with pytest.raises(ValueError, match="do not fit 7 words"):
        sharpness(images, [words[0], words[1][:5]], owner=owner)
    with pytest.raises(ValueError, match="do not fit 7 words"):
        sharpness(images, [words[0][:, :5]], owner=owner)
    with pytest.raises(ValueError, match="one per word"):
        sharpness(images, words, owner=owner[:3])
    assert sharpness(images, []) == []


class TemplateEncoder:
    """A text tower in which "even {}" puts two present classes at the same angle and the other templates do not."""

    tilt = {"even": 0.0, "skew": 0.05, "worse": 0.2}  # noqa: RUF012

    def __call__(self, prompts: list[str]) -> torch.Tensor:
        rows = []
        for prompt in prompts:
            kind, word = prompt.split(" ", 1)
            base = {"cat": [1.0, 0, 0, 0], "dog": [0, 1.0, 0, 0], "cow": [0, 0, 1.0, 0], "sky": [0, 0, 0, 1.0]}[word]
            rows.append([value + (self.tilt[kind] if word == "cat" else 0) * (i < 2) for i, value in enumerate(base)])
        return torch.tensor(rows)


def test_rank_templates(tmp_path):
    vocabulary = parse_classes("cat; dog; cow", background="sky,", templates="imagenet80")
    images = torch.tensor([[1.0, 1, 0, 0], [1, 1, 0, 0.3]])
    templates = ["worse {}", "even {}", "skew {}"]
    got = rank_templates(
        images, TemplateEncoder(), vocabulary, templates, tags=[["dog", "cat"], ["Cat", "dog"]], cache_dir=tmp_path
    )
    assert [template for template, _ in got] == ["even {}", "skew {}", "worse {}"]
    values = [value for _, value in got]
    assert values == sorted(values) and values[0] == pytest.approx(0, abs=1e-9) and values[2] > 0.1
    words, owner = texts(vocabulary)
    encoded = [TemplateEncoder()([t.replace("{}", w) for w in words]) for t, _ in got]
    np.testing.assert_allclose(values, sharpness(images, encoded, owner=owner, tags=[[0, 1]] * 2), atol=1e-6)
    # from the cache: nothing to encode, the same answer; equal templates keep their order
    key = {"weights_key": "w", "cache_dir": tmp_path}
    assert rank_templates(images, TemplateEncoder(), vocabulary, templates, **key) == rank_templates(
        images, None, vocabulary, templates, **key
    )


def test_rank_templates_refuses():
    vocabulary, images = parse_classes("cat; dog"), torch.ones(1, 4)
    with pytest.raises(ValueError, match=r"tags \['lion'\].*classes are cat, dog"):
        rank_templates(images, TemplateEncoder(), vocabulary, ["even {}"], tags=[["lion"]])
    for templates in ([], "even {}"):
        with pytest.raises(ValueError, match="give a list of at least one"):
            rank_templates(images, TemplateEncoder(), vocabulary, templates)


@pytest.mark.parametrize("owl", [{"name": "owl", "prompts": ["a bird with round eyes"]}, "owl"])
def test_classes_with_prompts_of_their_own_are_ranked_too(owl):
    """The candidates stand in place of every prompt of the vocabulary."""

    def encode(prompts):
        return torch.stack([torch.randn(8, generator=torch.Generator().manual_seed(sum(map(ord, p)))) for p in prompts])

    templates = ["a photo of a {}.", "a drawing of a {}.", "{}"]
    images = torch.randn(5, 8, generator=torch.Generator().manual_seed(3))
    words = parse_classes([{"name": "cat", "prompts": ["a furry animal"]}, owl], background=["sky"])
    plain = parse_classes(["cat", "owl"], background=["sky"])
    got = rank_templates(images, encode, words, templates)
    assert got == rank_templates(images, encode, plain, templates) and len({value for _, value in got}) == 3
