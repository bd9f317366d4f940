"""What every step of the table keeps to; a new step is tested by its entry alone."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from clipseg_ws import Segmenter, Support
from clipseg_ws.config import METHODS, STEPS, resolve
from clipseg_ws.config.settings import known_keys
from clipseg_ws.registry import Spec

NAMES = ["cat", "dog", "sofa"]
KINDS = ("looks", "tokens", "dense", "matching", "graph", "maps", "picture")
# parameters with which a step does something on tiny pictures
DIFFERENT = {"looks": {"flip": True}, "outliers": {"share": 0.2}, "known": {"words": "cat; dog; sofa; tree"}}


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(3)
    return [rng.integers(0, 256, shape, dtype=np.uint8) for shape in ((48, 80, 3), (48, 80, 3), (80, 48, 3))]


@pytest.fixture(scope="module")
def plain(tiny_backbone, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLIPSEG_WS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield Segmenter(backbone=tiny_backbone, attention_blocks=2, batch_size=4, keep_maps=True, refine="none")


def supports(picture):
    first, second = np.zeros((2, 48, 80), np.uint8)
    first[4:30, 4:40], second[10:40, 40:70] = 1, 1
    return [Support(picture, first, "cat"), Support(picture[:, ::-1], second, "cat"), Support(picture, second, "dog")]


def asked(segmenter, name, pictures):
    """Answers that the step takes part in; ``known`` needs features in the space of words."""
    if STEPS[name].about["when"] != "matching":
        return segmenter(pictures, classes=NAMES, tags=[["cat", "dog"], ["cat"], ["sofa"]][: len(pictures)])
    return segmenter(pictures, supports=supports(pictures[0]))


def with_and_without(plain, name):
    matching = STEPS[name].about["when"] == "matching"
    few = {"fewshot.kinds": ["input", "values"], "presence": False} if matching else {}
    given = DIFFERENT.get(name, True)
    return plain.variant(**few, **{name: given}), plain.variant(**few, **{name: False})


@pytest.mark.parametrize("name", STEPS)
def test_an_entry_is_complete(name):
    entry = STEPS[name]
    assert entry.about["when"] in KINDS and set(entry.about["answerers"]) <= {"maps", "words", "head"}
    assert callable(entry.load()) and entry.summary and not entry.summary.endswith(".")
    keys = known_keys()
    assert name in keys and all(f"{name}.{key}" in keys for key in entry.parameters)
    if entry.about["when"] in ("maps", "graph", "tokens"):
        named = inspect.signature(entry.load()).parameters
        assert set(entry.parameters) <= set(named), "the function takes the entry's parameters by name"
    settings = {"affinity": True, "attention_blocks": 2, name: True}
    whole = next(spec for spec in resolve("default", settings).steps if spec.name == name)
    assert dict(whole.parameters) == dict(entry.parameters)
    listed = ["affinity", str(Spec(name))] if name != "affinity" else ["affinity"]
    assert resolve("default", {"steps": listed}).step(name) is not None
    assert resolve("default", {name: False}).step(name) is None


@pytest.mark.parametrize("name", STEPS)
def test_a_step_changes_maps_within_their_range_and_not_with_the_batch(plain, pictures, name):
    with_it, without = with_and_without(plain, name)
    together, before = asked(with_it, name, pictures), asked(without, name, pictures)
    changed = max(np.abs(a.extras["maps"] - b.extras["maps"]).max() for a, b in zip(together, before, strict=True))
    reported = any("supports" in result.extras for result in together)
    assert changed > 1e-4 or reported
    for result in together:
        maps = result.extras["maps"]
        assert np.isfinite(maps).all() and maps.min() >= 0 and maps.max() <= 1 + 1e-4
    if name != "cross_image":  # looks at the other pictures of a batch by nature
        alone = asked(with_it, name, pictures[:1])
        assert np.abs(alone[0].extras["maps"] - together[0].extras["maps"]).max() < 1e-4


@pytest.mark.parametrize("name", STEPS)
def test_a_step_that_an_answerer_does_not_run_is_refused(plain, name):
    if "words" in STEPS[name].about["answerers"]:
        assert plain.variant("sclip", templates="plain", **{name: True}).config.step(name) is not None
    else:
        refused = "none of them runs" if name == "structure" else f"{name}: method 'sclip' decides by words"
        with pytest.raises(ValueError, match=refused):
            plain.variant("sclip", templates="plain", **{name: DIFFERENT.get(name, True)})


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_settings_that_resolve(name):
    entry = METHODS[name]
    config = resolve(name, {})
    assert config.method == name and entry.summary and not entry.summary.endswith(".")
    again = resolve(name, {key: v for key, v in config.as_dict().items() if key != "method"})
    assert again == config  # what is saved with a result makes the same configuration
