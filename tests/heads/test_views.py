"""Views of the pictures: augmented, with things pasted in, and relabelled with them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from helpers_heads import FAST, SPEC, call, few_classes
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from clipseg_ws.heads.augment import AugmentedData
from clipseg_ws.heads.data import ArrayData
from clipseg_ws.heads.incremental import shifted
from clipseg_ws.heads.paste import cut_out
from clipseg_ws.pictures.sources import list_sources
from clipseg_ws.run.training.masks import open_masks
from clipseg_ws.run.training.options import Recipe
from clipseg_ws.run.training.views import Donors, Views

pytest_plugins = ("fixtures_heads",)


def test_augmented_views_move_picture_and_mask_alike(nano):
    labels = np.zeros((64, 96), np.uint8)
    labels[16:48, 8:40] = 1
    labels[40:60, 60:90] = 255
    picture = Image.fromarray(np.stack([labels] * 3, -1))  # the picture shows its own mask
    data = AugmentedData(nano.backbone, SPEC, lambda i: (picture, labels, np.full_like(labels, 200)), [(96, 64)] * 2)
    one, two = data.batch([0, 1], (0, 1)), data.batch([0, 1], (0, 1))
    assert torch.equal(one.features, two.features) and torch.equal(one.labels, two.labels)
    assert not torch.equal(one.labels, data.batch([0, 1], (0, 2)).labels)
    assert one.labels.shape == (2, 16, 24) and set(one.labels.unique().tolist()) <= {0, 1, 255}
    view, mask, sure = data.augmentation(picture, labels, labels, np.random.default_rng(3))
    assert view.size == (96, 64) and mask.shape == (64, 96)
    again = data.augmentation.masks(labels, labels, np.random.default_rng(3))
    assert np.array_equal(again[0], mask) and np.array_equal(again[1], sure)
    shown = np.asarray(view)[..., 0] > 100
    assert (shown == (mask == 255)).mean() > 0.97 and np.array_equal(mask, sure)


def test_things_of_other_pictures_are_pasted_with_their_masks(scenes):
    """Views of pictures that show their own masks: picture and masks stay together, with and without decoding."""
    sources = list_sources(str(scenes / "photos"))
    folder = open_masks(scenes / "masks")
    views, plain = Views(sources, folder, 3, Donors(sources, folder, 2)), Views(sources, folder, 3)
    changed = 0
    for number in range(len(views.keys)):
        picture, labels, confidence = views.load(number)
        assert picture.size == labels.shape[::-1] == confidence.shape[::-1]
        again = views.masks(number)
        assert np.array_equal(again[0], labels) and np.array_equal(again[1], confidence)
        base = plain.load(number)
        different = (np.asarray(picture) != np.asarray(base[0])).any(-1)
        assert not different[(labels == base[1]) & (labels == 0)].any()  # what is pasted is a thing, not its ground
        changed += bool((labels != base[1]).any())
        assert changed == 0 or number >= len(sources)  # the first view is the picture as it is
    assert changed >= 6
    assert views.keys[:6] == plain.keys[:6] and not set(views.keys[6:]) & set(plain.keys[6:])
    assert Views(sources, folder, 3, Donors(sources, folder, 2)).keys == views.keys
    fewer = Views(sources, folder, 3, Donors(sources[:5], folder, 2))
    assert not set(fewer.keys[6:]) & set(views.keys)  # other donors, other pictures
    with pytest.raises(ValueError, match="views=2"):
        Recipe(paste=1)


@given(
    st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40),
    st.sampled_from([(0.6, 1.3), (0.01, 0.02), (1.0, 1.0)]),
)  # fmt: skip
def test_a_cutout_lies_inside_and_holds_one_class(seed, h, w, height, width, scale):
    rng = np.random.default_rng(seed)
    labels = rng.choice(np.array([0, 1, 2, 255], np.uint8), (h, w), p=[0.7, 0.1, 0.1, 0.1])
    confidence = rng.integers(0, 256, (h, w)).astype(np.uint8)
    cutout = cut_out(labels, confidence, (width, height), rng, scale=scale)
    if cutout is None:
        return
    ground = np.full((height, width), 255, np.uint8)
    mask, sure = cutout.into_masks(ground, ground)
    assert set(np.unique(mask)) <= {1, 2, 255} and len(set(np.unique(mask)) - {255}) <= 1
    assert ground.min() == 255 and set(np.unique(sure[mask < 255])) <= set(np.unique(confidence))
    shown = Image.fromarray(np.stack([labels] * 3, -1))
    after = np.asarray(cutout.into_picture(Image.new("RGB", (width, height), (255, 255, 255)), shown))
    assert (after[mask == 255] == 255).all() and after.shape == (height, width, 3)


def test_pasted_views_while_training(scenes, nano):
    """--augment --paste: a new view at every visit, the same for the same seed."""
    sources, folder = list_sources(str(scenes / "photos")), open_masks(scenes / "masks")
    views = Views(sources, folder, 1)
    make = {"detail": 2, "change": Donors(sources, folder, 3).paste}
    data = AugmentedData(nano.backbone, SPEC, views.load, [(96, 64), (64, 64)] * 3, **make)
    bare = AugmentedData(nano.backbone, SPEC, views.load, [(96, 64), (64, 64)] * 3, detail=2)
    one, two = data.batch([0, 2, 4], (0, 1)), data.batch([0, 2, 4], (0, 1))
    assert torch.equal(one.features, two.features) and torch.equal(one.labels, two.labels)
    assert not torch.equal(one.labels, bare.batch([0, 2, 4], (0, 1)).labels)


def test_held_back_pictures_are_no_donors(scenes, tmp_path, monkeypatch):
    seen = []

    class Spy(Donors):
        def __init__(self, sources, *more, **options):
            seen.append([str(source.relative) for source in sources])
            super().__init__(sources, *more, **options)

    monkeypatch.setattr("clipseg_ws.run.training.data.Donors", Spy)
    call("train", few_classes(scenes, tmp_path), "--images", scenes / "photos", "-o", tmp_path / "h.safetensors", *FAST,
         "--views", 2, "--paste", 1, "--validation", 0.34)  # fmt: skip
    keys = [json.loads(line)["name"] for line in (tmp_path / "h_training/tokens/index.jsonl").read_text().splitlines()]
    assert len(seen) == 1 and len(set(seen[0])) == 4 and len(keys) == 12


def test_added_classes_are_numbered_behind_the_old_ones_in_every_view(scenes, nano):
    """Labels move with the view that is being looked at, not with the picture as it is."""
    sources, folder = list_sources(str(scenes / "photos")), open_masks(scenes / "masks")
    views = Views(sources, folder, 1)
    data = AugmentedData(nano.backbone, SPEC, views.load, [(96, 64), (64, 64)] * 3, detail=2)
    before, after = data.batch([0, 2], (0, 1)), shifted(data, 5).batch([0, 2], (0, 1))
    assert torch.equal(before.features, after.features) and before.labels.max() > 0
    assert torch.equal(after.labels, before.labels + 5 * (before.labels > 0))
    labels = np.array([[0, 3, 255]], np.uint8)
    held = shifted(ArrayData(torch.zeros(1, 1, 1, 1, 3), [labels]), 200)
    assert held.target(0)[0].tolist() == [[0, 203, 255]] and held.batch([0], (0,)).labels.tolist() == [[[0, 203, 255]]]
