"""The one door to the picture refiners: choice of channels, batches, dtypes, sizes, refusals."""

from __future__ import annotations

import inspect
from importlib.util import find_spec

import pytest
import torch

from clipseg_ws.refine import REFINERS, picture
from clipseg_ws.refine.picture import refine_picture
from clipseg_ws.registry import Entry, Spec

NAMES = [
    pytest.param(name, marks=pytest.mark.skipif(bool(entry.needs) and not find_spec(entry.needs[0]), reason=name))
    for name, entry in REFINERS.items() if not entry.about.get("network")  # tests/refine/test_sam_masks.py
]  # fmt: skip


def drawn(height: int = 30, width: int = 44):
    """Two blocky pictures; scores (background, a, b, c): a absent everywhere, b absent in the second picture."""
    generator = torch.Generator().manual_seed(5)
    coarse = torch.rand(2, 3, 3, 4, generator=generator)
    image = torch.nn.functional.interpolate(coarse, size=(height, width), mode="nearest")
    scores = torch.rand(2, 4, height, width, generator=generator)
    scores[:, 1], scores[1, 2] = 0, 0
    return scores / scores.sum(1, keepdim=True), image


@pytest.mark.parametrize("name", NAMES)
def test_every_refiner_keeps_the_promises(name):
    scores, image = drawn()
    kept = scores.clone(), image.clone()
    found = refine_picture(name, scores, image)
    assert found.shape == scores.shape and found.dtype == scores.dtype
    assert found.data_ptr() != scores.data_ptr()
    assert torch.equal(scores, kept[0]) and torch.equal(image, kept[1])
    assert found.amin() >= 0 and found.amax() <= 1 + 1e-6
    assert (found[:, 1] == 0).all() and (found[1, 2] == 0).all()  # absent channels stay absent
    assert torch.equal(found, scores) == (name == "none")
    alone = torch.cat([refine_picture(name, scores[i : i + 1], image[i : i + 1]) for i in range(2)])
    assert torch.equal(found, alone)
    low = refine_picture(name, scores.bfloat16(), image)
    assert low.dtype == torch.bfloat16
    assert (low.float() - found).abs().mean() < 0.02
    pixels = (image * 255).round().to(torch.uint8)
    torch.testing.assert_close(
        refine_picture(name, scores, pixels), refine_picture(name, scores, pixels.float() / 255), rtol=0, atol=1e-4
    )


@pytest.mark.parametrize("name", NAMES)
def test_absent_channels_cost_nothing_and_change_nothing(name):
    """With and without empty channels the others agree: exactly what makes 80 classes as cheap as 2."""
    scores, image = drawn()
    present = scores[:1, [0, 2, 3]]
    found = refine_picture(name, scores[:1], image[:1])
    assert torch.equal(found[:, [0, 2, 3]], refine_picture(name, present, image[:1]))


@pytest.mark.parametrize("name", NAMES)
def test_an_entry_lists_the_parameters_of_its_function(name):
    entry = REFINERS[name]
    keywords = [p for p in inspect.signature(entry.load()).parameters.values() if p.kind is p.KEYWORD_ONLY]
    assert {p.name: p.default for p in keywords} == dict(entry.parameters)
    assert entry.summary and not entry.summary.endswith(".")
    scores, image = drawn(20, 24)
    whole = Spec(name, tuple(entry.parameters.items()))
    assert torch.equal(refine_picture(whole, scores, image), refine_picture(name, scores, image))
    assert torch.equal(refine_picture(str(whole), scores, image), refine_picture(name, scores, image))


def test_chosen_channels_only(monkeypatch):
    scores, image = drawn()
    seen = []
    monkeypatch.setattr(picture, "unrefined", lambda s, i: seen.append(tuple(s.shape)) or s * 0 + 0.5)
    assert (refine_picture("none", scores, image) == 0.5).all() and seen == [(2, 4, 30, 44)]  # all at once
    found = refine_picture("none", scores, image, channels=torch.tensor([False, True, False, False]))
    assert (found[:, 1] == 0.5).all() and torch.equal(found[:, [0, 2, 3]], scores[:, [0, 2, 3]])
    mask = torch.tensor([[True, False, False, True], [False] * 4])
    found = refine_picture("none", scores, image, channels=mask)
    assert (found[0, [0, 3]] == 0.5).all() and torch.equal(found[1], scores[1])
    assert torch.equal(found[0, [1, 2]], scores[0, [1, 2]])
    assert seen[1:] == [(2, 1, 30, 44), (2, 2, 30, 44)]  # the channels that any picture wants
    together = Entry("none", "", REFINERS["none"].home, about={"channels": "together"})  # labels that compete
    monkeypatch.setitem(REFINERS, "none", together)
    found = refine_picture("none", scores, image)
    assert seen[3:] == [(1, 3, 30, 44), (1, 2, 30, 44)]  # one by one, without channels that are zero everywhere
    assert (found[0, [0, 2, 3]] == 0.5).all() and torch.equal(found[:, 1], scores[:, 1])


def test_working_size(monkeypatch):
    scores, image = drawn()
    seen = []
    monkeypatch.setattr(picture, "unrefined", lambda s, i: seen.append((s.shape[-2:], i.shape[-2:])) or s)
    found = refine_picture("none", scores, image, max_side=22)
    assert seen[0] == ((15, 22), (15, 22)) and found.shape == scores.shape
    torch.testing.assert_close(found.sum(1), torch.ones(2, 30, 44))
    assert torch.equal(refine_picture("none", scores, image, max_side=44), scores)
    assert refine_picture("guided", scores.bfloat16(), (image * 255).byte(), max_side=20).dtype == torch.bfloat16
    with pytest.raises(ValueError, match="max_side=0"):
        refine_picture("none", scores, image, max_side=0)


def test_par_on_a_smaller_picture_is_the_door_s_own():
    scores, image = drawn()
    for size in (22, 44, 100):  # smaller, the picture's own, larger
        pixels = (image * 255).byte()
        found = refine_picture(f"par(max_side={size})", scores, pixels)
        assert torch.equal(found, refine_picture("par", scores, pixels, max_side=size))
        assert torch.equal(found, refine_picture("par", scores, pixels)) == (size >= 44)
    with pytest.raises(ValueError, match="max_side=-1"):
        refine_picture("par(max_side=-1)", scores, image)


def test_parameters_reach_the_refiner():
    scores, image = drawn()
    one, three = (refine_picture(f"pamr(iterations={n}, dilations=[8, 16])", scores, image) for n in (1, 3))
    assert not torch.equal(one, three)
    assert torch.equal(one, refine_picture(Spec("pamr").given(iterations=1), scores, image))
    for refiner in ("guided(radios=3)", Spec("guided").given(radios=3)):
        with pytest.raises(ValueError, match=r"refiner 'guided' has no parameter 'radios'.*radius, epsilon"):
            refine_picture(refiner, scores, image)
    with pytest.raises(ValueError, match=r"guided.radius='far' is str; a whole number is needed"):
        refine_picture("guided(radius=far)", scores, image)


def test_refused_inputs():
    scores, image = drawn()
    with pytest.raises(ValueError, match=r"refiner 'gude' is unknown; did you mean 'guided'.*pamr.*guided.*crf"):
        refine_picture("gude", scores, image)
    with pytest.raises(ValueError, match="not CLIP-normalised"):
        refine_picture("pamr", scores, image * 4 - 2)
    with pytest.raises(ValueError, match="dtype"):
        refine_picture("pamr", scores, image.long())
    with pytest.raises(ValueError, match="differ in size"):
        refine_picture("pamr", scores[..., 1:], image)
    for bad in (torch.ones(3, dtype=torch.bool), torch.ones(4)):
        with pytest.raises(ValueError, match="allowed: bool"):
            refine_picture("pamr", scores, image, channels=bad)
