"""Vectors of whole pictures: what the detectors see, and the nearest by a plain loop."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F

from clipseg_ws import Support
from clipseg_ws.fewshot.bank import BankError
from clipseg_ws.fewshot.gallery import Gallery, load_gallery, named
from clipseg_ws.fewshot.signature import Signature, detectors, fit_signature, gathered, strengths
from clipseg_ws.structures import Vocabulary


def pictures(count: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    """Features [count, 6, 8, 8]: channel 0 or 1 fires at one small thing; ground of any look is everywhere else."""
    g = torch.Generator().manual_seed(0)
    kind = torch.arange(count) % 2
    features = torch.zeros(count, 6, 8, 8)
    for i in range(count):
        features[i, 2:5] = torch.rand(3, generator=g)[:, None, None] + 1  # the ground of this picture
        features[i, :, 3:5, 3:5] = 0
        features[i, int(kind[i]), 3:5, 3:5] = 30
        features[i, 5, 3:5, 3:5] = 3.0 * (1 - 2 * float(kind[i]))
    return features, kind


def test_detectors_find_what_a_mean_over_the_patches_drowns():
    features, kind = pictures()
    channels = detectors(strengths(features), 2)
    assert set(channels.tolist()) == {0, 1}
    signature = fit_signature(gathered(features, channels), channels, 8)
    vectors = signature(features)
    likeness = vectors @ vectors.t()
    likeness.fill_diagonal_(-2)
    assert torch.equal(kind[likeness.argmax(1)], kind)
    same = kind[:, None] == kind[None]
    assert likeness[same & (likeness > -2)].min() > likeness[~same].max()


def test_gathering_written_out():
    features = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(1))
    got = gathered(features, torch.tensor([3, 0]))
    for b in range(2):
        parts = []
        for channel in (3, 0):
            fired = features[b, channel].clamp_min(0)
            total = torch.zeros(5)
            for y in range(3):
                for x in range(4):
                    total += (fired[y, x] / fired.norm()).sqrt() * features[b, :, y, x]
            parts.append(total / total.norm())
        assert torch.allclose(got[b], torch.cat(parts), atol=1e-5)


def test_whitened_directions_have_one_variance():
    joined = torch.randn(50, 6, generator=torch.Generator().manual_seed(2)) * torch.tensor([5, 3, 1, 1, 0.5, 0.1])
    signature = fit_signature(joined, torch.tensor([0]), 4)
    moved = (joined - signature.centre) @ signature.axes
    assert torch.allclose(moved.t() @ moved / 50, torch.eye(4), atol=1e-4)
    with pytest.raises(ValueError, match="at least two"):
        fit_signature(joined[:1], torch.tensor([0]), 4)


@pytest.fixture
def gallery() -> Gallery:
    vectors = F.normalize(torch.randn(9, 4, generator=torch.Generator().manual_seed(3)), dim=1).half()
    supports = tuple(Support(f"/p/{i}.jpg", f"/p/{i}.png" if i % 2 else None, "kitty" if i % 3 else "dog")
                     for i in range(9))  # fmt: skip
    return Gallery(vectors, supports, Signature(torch.tensor([1]), torch.zeros(4), torch.eye(4)), "m", "0" * 64)


def test_the_nearest_of_a_class_by_a_loop(gallery, tmp_path):
    words = Vocabulary(("dog", "cat"), (("dog",), ("cat", "kitty")))
    query = F.normalize(torch.tensor([1.0, -1, 0.5, 2]), dim=0)
    kept = load_gallery(gallery.save(tmp_path / "g.safetensors"))
    for place, label in enumerate(("dog", "kitty")):
        rows = [i for i in range(9) if gallery.supports[i].label == label]
        rows.sort(key=lambda i: -sum(float(a) * float(b) for a, b in zip(gallery.vectors[i], query, strict=True)))
        found = kept.nearest(query, place, words, 2)
        assert [s.image for s in found] == [f"/p/{i}.jpg" for i in rows[:2]] and {s.label for s in found} == {label}
    assert kept.nearest(query, 0, Vocabulary(("sheep",), (("sheep",),)), 2) == []
    assert len(kept.nearest(query, 0, words, 50)) == 3


def test_wrong_files_and_weights_are_refused(gallery, tmp_path):
    from types import SimpleNamespace

    from safetensors.torch import save_file

    with pytest.raises(BankError, match="made with other weights"):
        gallery.check(SimpleNamespace(weights_sha256="1" * 64, name="other"))
    with pytest.raises(FileNotFoundError, match="bank build FOLDER"):
        load_gallery(tmp_path / "none")
    save_file({"x": torch.zeros(1)}, tmp_path / "x", metadata={"clipseg_ws": json.dumps({"format": "another"})})
    with pytest.raises(BankError, match="no gallery of this version"):
        load_gallery(tmp_path / "x")
    for support in (Support("a.jpg"), Support(torch.zeros(1), None, "cat")):
        with pytest.raises(BankError, match="a gallery needs"):
            named([support])
