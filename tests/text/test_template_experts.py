"""Template experts against a plain loop, and the vocabulary that comes out."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from clipseg_ws.text.class_files import write_classes
from clipseg_ws.text.embeddings import embed_vocabulary
from clipseg_ws.text.experts import choose_experts, class_entropy, template_experts
from clipseg_ws.text.vocabulary import parse_classes


def test_entropy_against_a_loop():
    g = torch.Generator().manual_seed(0)
    patches, text = (F.normalize(torch.randn(n, 8, generator=g), dim=-1) for n in (40, 5))
    owner = torch.tensor([0, 0, 1, 2, -1])
    patches = patches[(10 * patches @ text.T).argmax(1) != 3]  # class 2 wins nothing
    got = class_entropy(patches, text, owner, 10.0)
    sums: dict[int, list[float]] = {}
    for patch in patches.tolist():
        logits = [10 * sum(a * b for a, b in zip(patch, word, strict=True)) for word in text.tolist()]
        total = sum(math.exp(v) for v in logits)
        p = [math.exp(v) / total for v in logits]
        sums.setdefault(int(owner[p.index(max(p))]), []).append(-sum(v * math.log(v) for v in p))
    for c in (0, 1):
        assert got[c] == pytest.approx(sum(sums[c]) / len(sums[c]), rel=1e-4)
    assert got[2].isnan()


def test_experts_are_the_surest_and_never_the_unused():
    nan = float("nan")
    entropies = torch.tensor([[0.5, nan, nan], [0.2, 0.9, nan], [0.4, nan, nan]])
    assert choose_experts(entropies, 2) == [[1, 2], [1], []]


def test_a_class_gets_the_template_it_is_recognised_by(tmp_path):
    """Two templates: under the first only "cat" has a clear direction, under the second only "dog"."""
    axes = torch.eye(4)
    clear, vague = (lambda axis: axes[axis]), (lambda axis: F.normalize(0.3 * axes[axis] + axes[3], dim=0))
    table = {"a cat.": clear(0), "a dog.": vague(1), "the cat.": vague(0), "the dog.": clear(1)}

    def encode(texts):
        return torch.stack([table.get(t, axes[3]) for t in texts])

    vocabulary = parse_classes("cat; dog; owl", background=["sky"])
    patches = F.normalize(torch.stack([axes[0] + 0.05 * axes[2], axes[1] + 0.05 * axes[2]]), dim=-1)
    chosen = template_experts(patches, encode, vocabulary, ["a {}.", "the {}."], 20.0, top=1)
    assert chosen.prompts == (("a {}.",), ("the {}.",), ())
    write_classes(chosen, tmp_path / "experts.yaml")
    assert parse_classes(str(tmp_path / "experts.yaml")) == chosen
    with pytest.raises(ValueError, match="a class file ends in"):
        write_classes(chosen, tmp_path / "experts.txt")
    with pytest.raises(ValueError, match="top from 1"):
        template_experts(patches, encode, vocabulary, ["a {}."], top=0)


def test_own_prompts_replace_the_templates_of_their_class_only(tmp_path):
    seen = []

    def encode(texts):
        seen.extend(texts)
        g = [torch.Generator().manual_seed(sum(map(ord, t))) for t in texts]
        return torch.stack([torch.randn(6, generator=one) for one in g])

    path = tmp_path / "c.yaml"
    path.write_text(
        "classes:\n  - {name: owl, words: [owl, barn owl], prompts: ['an {}.', 'a bird with large round eyes']}\n"
        "  - cat\nbackground: [sky]\ntemplates: 'a photo of a {}.'\nfusion: max\n"
    )
    vocabulary = parse_classes(path)
    assert vocabulary.prompts == (("an {}.", "a bird with large round eyes"), ())
    text = embed_vocabulary(vocabulary, encode, weights_key="k", cache_dir=tmp_path)
    assert set(seen) == {
        "an owl.", "an barn owl.", "a bird with large round eyes", "a photo of a cat.", "a photo of a sky.",
    }  # fmt: skip
    expected = F.normalize(F.normalize(encode(["an owl.", "a bird with large round eyes"]), dim=-1).mean(0), dim=-1)
    torch.testing.assert_close(text.vectors[0], expected)
    seen.clear()
    again = embed_vocabulary(vocabulary, encode, weights_key="k", cache_dir=tmp_path)
    assert not seen and torch.equal(again.vectors, text.vectors)  # all of it came from the cache
    assert text.owner.tolist() == [0, 0, 1, -1]


@pytest.mark.parametrize("prompts", ["['']", "['{} and {}']", "[3]", "7"])
def test_bad_prompts_are_named(tmp_path, prompts):
    path = tmp_path / "c.yaml"
    path.write_text(f"classes:\n  - {{name: owl, prompts: {prompts}}}\n")
    with pytest.raises(ValueError, match="class 'owl': prompts"):
        parse_classes(path)
