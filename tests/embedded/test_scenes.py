"""The drawn scenes: deterministic, labels exact, tags truthful."""

from __future__ import annotations

import numpy as np
import pytest

from clipseg_ws.embedded.nano.backgrounds import draw_background
from clipseg_ws.embedded.nano.scenes import (
    BACKGROUND_SYNONYMS,
    BACKGROUNDS,
    HELD_OUT_SEED,
    KINDS,
    MIN_SHARE,
    SYNONYMS,
    Scene,
    captions_for,
    describe,
    draw_scene,
    held_out,
)
from clipseg_ws.embedded.nano.shapes import draw_thing


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [draw_scene(seed, 96) for seed in range(120)]


def test_vocabulary_is_rich_enough() -> None:
    assert len(KINDS) >= 12 and len(set(KINDS)) == len(KINDS)
    assert len(BACKGROUNDS) >= 5 and not set(BACKGROUNDS) & set(KINDS)
    assert set(SYNONYMS) == set(KINDS) and all(1 <= len(words) <= 3 for words in SYNONYMS.values())
    assert set(BACKGROUND_SYNONYMS) == set(BACKGROUNDS)
    words = [*KINDS, *BACKGROUNDS, *(w for ws in (*SYNONYMS.values(), *BACKGROUND_SYNONYMS.values()) for w in ws)]
    assert len(words) == len(set(words))  # no word means two things


def test_same_seed_same_scene_and_other_seed_another() -> None:
    first, again, other = draw_scene(7, (80, 112)), draw_scene(7, (80, 112)), draw_scene(8, (80, 112))
    assert np.array_equal(first.image, again.image) and np.array_equal(first.labels, again.labels)
    assert (first.tags, first.background, first.captions) == (again.tags, again.background, again.captions)
    assert not np.array_equal(first.image, other.image)


@pytest.mark.parametrize("size", [(48, 160), (150, 64), (224, 224)])
def test_shapes_and_types(size: tuple[int, int]) -> None:
    scene = draw_scene(3, size)
    assert scene.image.shape == (*size, 3) and scene.image.dtype == np.uint8
    assert scene.labels.shape == size and scene.labels.dtype == np.uint8
    assert scene.seed == 3


def test_tags_are_truthful(scenes: list[Scene]) -> None:
    for scene in scenes:
        values, counts = np.unique(scene.labels, return_counts=True)
        seen = {int(v): int(c) for v, c in zip(values, counts, strict=True) if v}
        assert scene.tags == tuple(KINDS[v - 1] for v in sorted(seen))
        assert 1 <= len(scene.tags) <= 4
        assert all(count >= MIN_SHARE * scene.labels.size for count in seen.values())


def test_everything_is_drawn(scenes: list[Scene]) -> None:
    assert {tag for scene in scenes for tag in scene.tags} == set(KINDS)
    assert {scene.background for scene in scenes} == set(BACKGROUNDS)
    assert {len(scene.tags) for scene in scenes} == {1, 2, 3, 4}
    shares = [np.mean(scene.labels == KINDS.index(tag) + 1) for scene in scenes for tag in scene.tags]
    assert min(shares) < 0.02 and max(shares) > 0.12  # small and large things


def test_captions_name_what_is_there(scenes: list[Scene]) -> None:
    for scene in scenes[:40]:
        assert len(scene.captions) >= 2
        assert all(tag in scene.captions[0] for tag in scene.tags) and scene.captions[0].endswith(scene.background)
        grounds = (scene.background, *BACKGROUND_SYNONYMS[scene.background])
        for caption in scene.captions:
            assert caption.endswith(grounds)
            assert all(any(word in caption for word in (tag, *SYNONYMS[tag])) for tag in scene.tags)


def test_synonyms_are_used() -> None:
    rng = np.random.default_rng(0)
    text = " ".join(captions_for(KINDS, "grass", rng, 30))
    assert all(word in text for words in SYNONYMS.values() for word in words)


def test_describe() -> None:
    assert describe(["house"], "grass") == "a house on grass"
    assert describe(["umbrella", "oak", "car"], "sea") == "an umbrella, an oak and a car on sea"
    assert describe([], "snow") == "snow"


def test_labels_lie_where_the_thing_was_painted() -> None:
    """Without things the same ground comes out, so the picture may differ from it only where the labels say so."""
    for seed in range(6):
        scene = draw_scene(seed, 128, kinds=("sun",), max_things=1)
        rng = np.random.default_rng(seed)
        assert str(rng.choice(BACKGROUNDS)) == scene.background
        ground = draw_background(scene.background, 128, 128, rng)
        change = np.abs(scene.image.astype(float) - ground).mean(-1)
        inside = scene.labels == KINDS.index("sun") + 1
        grown = np.zeros_like(inside)  # one pixel of antialiasing around it
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                grown |= np.roll(inside, (dy, dx), (0, 1))
        assert change[~grown].max() < 40  # only the noise of the picture, at most 5 grey levels of deviation
        assert np.median(change[inside]) > np.median(change[~grown]) + 5


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_fits_its_canvas(kind: str) -> None:
    for seed in range(3):
        colour, cover = draw_thing(kind, 60.0, np.random.default_rng(seed))
        assert colour.shape == (*cover.shape, 3) and cover.min() == 0 and cover.max() == 1
        assert colour.min() >= 0 and colour.max() <= 255
        edge = np.concatenate([cover[0], cover[-1], cover[:, 0], cover[:, -1]])
        assert edge.max() == 0  # nothing is cut off
        assert 0.1 < (cover >= 0.5).sum() / 60**2 < 0.95


def test_kinds_limits_what_is_drawn() -> None:
    for seed in range(10):
        assert set(draw_scene(seed, 96, kinds=("car", "fish")).tags) <= {"car", "fish"}


def test_held_out_starts_at_its_seed() -> None:
    drawn = list(held_out(3, (48, 64)))
    assert [scene.seed for scene in drawn] == [HELD_OUT_SEED, HELD_OUT_SEED + 1, HELD_OUT_SEED + 2]
    assert drawn[0].labels.shape == (48, 64)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"kinds": ("cat",)}, "cat"), ({"kinds": ()}, "empty"), ({"size": 16}, "16"), ({"max_things": 0}, "max_things 0")],
)
def test_errors_say_what_came_in(arguments: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        draw_scene(0, **arguments)
    with pytest.raises(KeyError, match="house"):
        draw_thing("cat", 20, np.random.default_rng(0))
    with pytest.raises(KeyError, match="grass"):
        draw_background("moon", 32, 32, np.random.default_rng(0))
