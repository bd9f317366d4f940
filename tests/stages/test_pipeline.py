"""The Segmenter on a small random CLIP: shapes, settings, batches, errors. No claim about the content."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import small_dino
from PIL import Image

from clipseg_ws import Segmenter
from clipseg_ws.config import METHODS, Config, resolve
from clipseg_ws.stages.question import Known
from clipseg_ws.stages.reading import readable


@pytest.fixture(scope="module")
def segmenter(tiny_backbone, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLIPSEG_WS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield Segmenter(backbone=tiny_backbone, attention_blocks=2, features=small_dino())


def picture(seed: int, width: int = 90, height: int = 60) -> Image.Image:
    """A reproducible noise picture with some structure."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (4, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


CLASSES = "cat; person, people, human; sofa"


def test_one_picture_by_names(segmenter):
    result = segmenter(picture(0), classes=CLASSES)
    assert result.labels.shape == (60, 90) and result.labels.dtype == np.uint8
    assert result.names == ("cat", "person", "sofa") and set(result.scores) == set(result.names)
    assert all(0 <= s <= 1 for s in result.scores.values())
    assert result.confidence.shape == (60, 90) and 0 <= result.confidence.min() <= result.confidence.max() <= 1
    assert result.setting == "zero" and result.config["method"] == "default" and result.source is None


def test_tags_limit_the_classes(segmenter):
    results = segmenter([picture(0), picture(1), picture(2)], classes=CLASSES, tags=[["sofa"], ["human", "cat"], []])
    assert set(np.unique(results[0].labels)) <= {0, 3}
    assert set(np.unique(results[1].labels)) <= {0, 1, 2}
    assert (results[2].labels == 0).all()
    assert [r.setting for r in results] == ["weak"] * 3
    assert results[0].scores["cat"] == 0 and results[0].scores["sofa"] > 0


def test_tags_alone_are_the_vocabulary(segmenter):
    assert segmenter(picture(0), tags=["dog", "cat"]).names == ("cat", "dog")


@pytest.mark.parametrize("method", METHODS)
def test_alone_equals_in_a_batch_of_eight(segmenter, method):
    settings = {"attention_blocks": 2, "keep_maps": True, "templates": "plain", "refine": "none", "short_side": None}
    settings |= {"window": min(resolve(method, {}).window, 48), "stride": 0}
    variant = segmenter.variant(method, **readable(method, settings))
    pictures = [picture(i, *((90, 60) if i % 3 else (64, 100))) for i in range(8)]
    tags = [["cat", "sofa"], ["person"], ["sofa"], ["cat"], ["cat", "person", "sofa"], [], ["person"], ["cat"]]
    for given in (None, tags):
        together = variant(pictures, classes=CLASSES, tags=given)
        for i in (0, 1, 4, 7):
            alone = variant(pictures[i], classes=CLASSES, tags=None if given is None else given[i])
            assert np.abs(together[i].extras["maps"] - alone.extras["maps"]).max() < 1e-4
            assert max(abs(together[i].scores[n] - alone.scores[n]) for n in alone.names) < 1e-4
            assert (together[i].labels != alone.labels).mean() < 0.01  # ties may fall either way


@pytest.mark.parametrize("fusion", ["string", "max"])
@pytest.mark.parametrize("rule", ["power", "constant", "prompts"])
@pytest.mark.parametrize("activation", ["gradcam", "dense", "fused"])
def test_settings_are_what_they_say(segmenter, fusion, rule, activation):
    """The decision written out pixel by pixel, from the words and maps that the settings ask for."""
    settings = {"fusion": fusion, "background_rule": rule, "activation": activation, "min_area": 0.3, "refine": "none"}
    settings |= {"alpha": 2.0} if rule == "power" else {"background_threshold": 0.6} if rule == "constant" else {}
    variant = segmenter.variant(**settings)
    question, ready = variant.ask(CLASSES), variant.prepare(picture(3))
    assert (question.text.owner >= 0).sum() == (3 if fusion == "string" else 5)
    (result,) = variant.answer(question, [ready], tags=[["person", "cat"]])
    present = torch.tensor([[True, True, False]])
    maps = variant.answerer.maps([ready], question, Known(present))
    scores = F.interpolate(maps.maps, size=(60, 90), mode="bilinear")[0]
    best = scores.amax(0)
    if rule == "prompts":
        ground = F.interpolate(maps.background[:, None], size=(60, 90), mode="bilinear")[0, 0]
    else:
        ground = (1 - best) ** 2 if rule == "power" else torch.full_like(best, 0.6)
    scores = torch.cat([ground[None], scores])
    labels = scores.argmax(0)
    small = [c for c in (1, 2) if (labels == c).sum() < 0.3 * 60 * 90]
    scores[small] = 0
    assert np.array_equal(result.labels, scores.argmax(0).numpy())
    assert np.allclose(result.confidence, (scores.amax(0) / scores.sum(0).clamp_min(1e-12)).numpy(), atol=1e-5)


def test_background_words_that_are_classes_are_left_out(segmenter):
    vocabulary = segmenter.vocabulary("cat; tree, oak")
    assert "tree" not in vocabulary.background and "sky" in vocabulary.background
    assert segmenter.vocabulary("cat", background=["sky"]).background == ("sky",)


def test_large_picture_is_bounded_and_answer_has_its_size(segmenter):
    variant = segmenter.variant(max_patches=20)
    big = picture(4, 700, 300)
    rows, columns = variant.prepare(big).grid[0]
    assert rows * columns <= 20
    assert variant(big, classes="cat").labels.shape == (300, 700)


def test_cached_tokens_give_the_same_answer_and_are_bounded(segmenter, monkeypatch):
    cached = segmenter.variant(cache_mb=1)
    other = cached.variant("cam", cache_mb=1, attention_blocks=2, position_interpolation="bicubic")
    calls = []
    encode = type(cached.backbone).encode
    monkeypatch.setattr(type(cached.backbone), "encode", lambda self, *a, **k: calls.append(1) or encode(self, *a, **k))
    first = cached(picture(5), classes=CLASSES, tags=["cat"])
    again = cached(picture(5), classes=CLASSES, tags=["cat"])
    other(picture(5), classes=CLASSES, tags=["cat"])
    assert len(calls) == 1 and np.array_equal(first.labels, again.labels)
    cached([picture(6), picture(7), picture(8)], classes=CLASSES)
    assert len(cached._models.tokens) == 4  # small ones


def test_sources_are_kept(segmenter, tmp_path):
    path = tmp_path / "a.png"
    picture(0).save(path)
    results = segmenter([str(path), picture(0), np.asarray(picture(0))], classes="cat")
    assert results[0].source == str(path) and results[1].source is None
    assert np.array_equal(results[0].labels, results[1].labels) and np.array_equal(results[0].labels, results[2].labels)


def test_save_and_mask(segmenter, tmp_path):
    result = segmenter(picture(0), classes=CLASSES, tags=["cat"])
    paths = result.save(tmp_path, stem="x")
    assert sorted(p.name for p in paths) == ["x.json", "x.png", "x_overlay.png"]
    assert np.array_equal(np.asarray(Image.open(tmp_path / "x.png")), result.labels)
    assert result.mask("cat").sum() == (result.labels == 1).sum()
    with pytest.raises(KeyError, match="dog"):
        result.mask("dog")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"classes": None}, "no classes were given"),
        ({"classes": "cat", "tags": ["dog"]}, "tag 'dog' is no class; known: cat"),
        ({"classes": "cat", "tags": "cat"}, "a list of names"),
        ({"classes": ""}, "cat; person"),
    ],
)
def test_bad_calls(segmenter, call, message):
    with pytest.raises(ValueError, match=message):
        segmenter(picture(0), **call)


def test_tag_lists_must_fit_the_pictures(segmenter):
    with pytest.raises(ValueError, match="2 tag lists for 1"):
        segmenter([picture(0)], classes="cat", tags=[["cat"], ["cat"]])
    with pytest.raises(ValueError, match="list of lists"):
        segmenter([picture(0), picture(1)], classes="cat", tags=["cat", "cat"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"alhpa": 2}, "did you mean 'alpha'"),
        ({"activation": "max"}, "gradcam, dense, fused"),
        ({"batch_size": 0}, "at least 1"),
        ({"min_area": 2.0}, r"\[0, 1\]"),
        ({"alpha": "abc"}, "a finite number is needed"),
        ({"alpha": float("nan")}, "a finite number is needed"),
        ({"presence": "maybe"}, "true or false"),
        ({"affinity_threshold": 0.7}, "did you mean 'affinity.threshold'"),
        ({"affinity": False, "affinity.threshold": 0.7}, "does not run here"),
        ({"affinity.treshold": 0.7}, "its parameters: affinity.threshold"),
        ({"steps": "affinity, salience"}, "did you mean 'saliency'"),
        ({"refine": "pamr(iteration=3)"}, "its parameters: iterations"),
    ],
)
def test_configuration_errors(given, message):
    with pytest.raises(ValueError, match=message):
        resolve("default", given)


@pytest.mark.parametrize(
    ("method", "settings", "named"),
    [
        ("sclip", {"looks": {"scales": [1.0, 1.5]}}, "looks"),
        ("sclip", {"min_area": 0.1, "alpha": 2.0}, "alpha, min_area"),
        ("sclip", {"affinity": True}, "affinity"),
        ("sclip", {"presence_threshold": 0.1}, "presence_threshold"),
        ("sclip", {"pool": "cls"}, "pool"),
        ("naclip", {"stride": 4}, "stride"),  # the picture is one window
        ("default", {"window": 48}, "window"),
        ("default", {"area_threshold": 0.1}, "area_threshold"),
        ("default", {"background_threshold": 0.3}, "background_threshold"),  # the power rule reads alpha
        ("clip-es", {"dense_mode": "sclip"}, "dense_mode"),  # no dense maps there
        ("clip-es", {"correlation": "cross"}, "correlation"),
        ("default", {"head_affinity": 0.1}, "head_affinity"),
    ],
)
def test_settings_that_a_method_does_not_read_are_refused(segmenter, method, settings, named):
    """Leaving a setting aside in silence would be a wrong answer."""
    with pytest.raises(ValueError, match=f"^{named}: method '{method}' decides by (maps|words) and does not read"):
        segmenter.variant(method, **settings)


def test_settings_of_examples_without_examples_are_refused(segmenter):
    few = segmenter.variant(fewshot={"prior": 0.0})
    with pytest.raises(ValueError, match=r"fewshot\.prior: method 'default'"):
        few(picture(0), classes="cat")
    with pytest.raises(ValueError, match="vote: method"):
        segmenter.variant(vote=True)(picture(0), classes="cat")


def test_a_question_is_resolved_once_and_answered_often(segmenter, monkeypatch):
    question = segmenter.ask(CLASSES, "none")
    assert question.vocabulary.background == ()
    monkeypatch.setattr("clipseg_ws.stages.asking.resolve_names", None)  # nobody resolves again
    pictures = [picture(0), picture(1)]
    first = segmenter.answer(question, pictures, tags=[["cat"], ["sofa"]])
    again = segmenter.answer(pickle.loads(pickle.dumps(question)), [segmenter.prepare(p) for p in pictures],
                             tags=[["cat"], ["sofa"]])  # fmt: skip
    for one, other in zip(first, again, strict=True):
        assert np.array_equal(one.labels, other.labels) and one.config["vocabulary"]["background"] == ()
    monkeypatch.undo()
    assert segmenter.ask(question.vocabulary).vocabulary.background == ()  # said is said
    assert segmenter.ask("cat").vocabulary.background == segmenter.vocabulary("cat").background != ()


def test_configuration_order():
    """Defaults < preset < the model's recommendation < what the user gives."""
    assert resolve("clip-es", {}).step("affinity")["exclude_last"]
    assert not Config().step("affinity")["exclude_last"]
    assert resolve("cam", {"affinity": True}, {"affinity.threshold": 0.6}).step("affinity")["threshold"] == 0.6
    assert resolve("cam", {}, {"affinity.threshold": 0.6}).steps == ()
    assert resolve("cam", {}, {"alpha": 2.0}).alpha == 2.0
    assert resolve("cam", {"alpha": 3.0}, {"alpha": 2.0}).alpha == 3.0
    with pytest.raises(ValueError, match="clip-es"):
        resolve("clipes", {})
    advice = {"alpha": 3.0, "methods": {"default": {"alpha": 5.0}}}
    assert resolve("default", {}, advice).alpha == 5.0 and resolve("cam", {}, advice).alpha == 3.0
    assert resolve("default", {"alpha": 2.0}, advice).alpha == 2.0


def test_window_results_do_not_depend_on_the_batch_size(segmenter):
    """A picture of eight windows gives the same probabilities however many go through together."""
    settings = {"short_side": 60, "window": 32, "stride": 16, "templates": "plain", "keep_maps": True}
    one = segmenter.variant("sclip", batch_size=1, **settings)(picture(9), classes=CLASSES)
    many = segmenter.variant("sclip", batch_size=7, **settings)(picture(9), classes=CLASSES)
    assert np.abs(one.extras["maps"] - many.extras["maps"]).max() < 1e-4


@pytest.mark.parametrize("method", ["sclip", "clearclip"])
@pytest.mark.parametrize("size", [(90, 60), (10, 7), (33, 200)])
def test_word_methods_take_any_size_and_respect_tags(segmenter, method, size):
    variant = segmenter.variant(
        method, short_side=None, window=48, stride=24, templates="plain", background_threshold=0.0
    )
    result = variant(picture(2, *size), classes=CLASSES, tags=["sofa"])
    assert result.labels.shape == size[::-1] and set(np.unique(result.labels)) <= {0, 3}


@pytest.mark.parametrize("refine", ["pamr", "guided"])
def test_picture_refinement_runs_in_both_decisions(segmenter, refine):
    for method in ("clip-es", "maskclip"):
        settings = {"attention_blocks": 2, "refine": refine, "templates": "plain", "short_side": None}
        variant = segmenter.variant(method, **readable(method, settings))
        assert variant(picture(1), classes=CLASSES, tags=["cat", "sofa"]).labels.shape == (60, 90)


@pytest.mark.parametrize("refine", ["none", "guided"])
def test_a_prepared_picture_is_a_picture_of_its_own(tiny_backbone, refine):
    """What the caller does to the array or picture afterwards changes nothing."""
    segment = Segmenter(backbone=tiny_backbone, attention_blocks=2, refine=refine, presence_threshold=0.0)
    question = segment.ask("cat; dog")
    before = np.random.default_rng(1).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    (want,) = segment.answer(question, [before])
    array, image = before.copy(), Image.fromarray(before)
    ready = [segment.prepare(array), segment.prepare(image)]
    array[:] = 0
    image.paste((0, 0, 0), (0, 0, 96, 64))
    for got in segment.answer(question, ready):
        assert np.allclose(got.confidence, want.confidence, atol=1e-5) and np.array_equal(np.array(got.image), before)
