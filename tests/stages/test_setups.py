"""A model that recommends other settings for names, tags and examples: each is answered by its own."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from conftest import tiny_clip

from clipseg_ws import Segmenter, Support, WeakLabels
from clipseg_ws.backbones import ModelCard, wrap

ADVICE = {
    "short_side": 64, "templates": "a {}.", "fusion": None, "attention_blocks": 2, "refine": "none",
    "settings": {
        "zero": {"method": "naclip", "presence_threshold": 0.1, "logit_scale": 30.0},
        "weak": {"alpha": 3.0, "short_side": 96},
        "few": {"alpha": 5.0, "fewshot": {"prior": 0.2}},
    },
}  # fmt: skip
CLASSES = "cat; dog"


def picture(seed=0, size=(64, 80)):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def backbone(advice=ADVICE):
    return wrap(tiny_clip(), name="tiny", card=ModelCard(advice, file="tiny.json"))


@pytest.fixture(scope="module")
def segment():
    return Segmenter(backbone=backbone())


def test_each_setting_by_its_own(segment):
    support = Support(picture(1, (64, 64)), np.pad(np.ones((32, 32), np.uint8), 16), "cat")
    zero = segment(picture(), CLASSES)
    weak = segment(picture(), CLASSES, tags=["cat"])
    few = segment(picture(), CLASSES, supports=[support])
    assert [r.setting for r in (zero, weak, few)] == ["zero", "weak", "few"]
    assert [r.config["method"] for r in (zero, weak, few)] == ["naclip", "default", "default"]
    assert [r.config["short_side"] for r in (zero, weak, few)] == [64, 96, 64]
    assert [r.config["alpha"] for r in (weak, few)] == [3.0, 5.0] and few.config["fewshot"]["prior"] == 0.2
    for setting, result in (("zero", zero), ("weak", weak), ("few", few)):
        config = segment.config_of(setting).as_dict()
        assert {key: result.config[key] for key in config} | {"logit_scale": config["logit_scale"]} == config
        assert result.config["settings_of"] == "model"
        own = {k: v for k, v in (ADVICE | ADVICE["settings"][setting]).items() if k not in ("method", "settings")}
        asked = {"tags": ["cat"]} if setting == "weak" else {"supports": [support]} if setting == "few" else {}
        same = Segmenter(backbone=backbone(own), method=config["method"])(picture(), CLASSES, **asked)
        assert np.array_equal(result.labels, same.labels) and np.array_equal(result.confidence, same.confidence)


def test_pictures_of_both_kinds_in_one_call(segment):
    marks = [WeakLabels(tags=("cat",)), WeakLabels(points=(("background", 3, 3),))]
    question = segment.ask(CLASSES)
    both = segment.answer(question, [picture(), picture()], marks=marks)
    assert [r.setting for r in both] == ["weak", "zero"]
    assert [r.config["method"] for r in both] == ["default", "naclip"]
    for one, mark in zip(both, marks, strict=True):
        (alone,) = segment.answer(question, [picture()], marks=[mark])
        assert np.array_equal(one.labels, alone.labels)
    ready = segment.prepare(picture())  # at the size of one setting, answered in another
    (again,) = segment.answer(question, [ready], tags=[["cat"]])
    assert np.array_equal(again.labels, both[0].labels)


def test_a_named_method_is_the_same_in_every_setting(segment):
    cam = segment.variant("cam")
    assert cam(picture(), CLASSES).config["method"] == cam(picture(), CLASSES, tags=["cat"]).config["method"] == "cam"
    assert cam.config_of("zero") is cam.config_of("weak") is cam.config


def test_what_the_user_sets_wins_everywhere(segment):
    chosen = segment.variant(short_side=48, refine="par")
    assert {chosen.config_of(s).short_side for s in ("zero", "weak", "few", "weak-few")} == {48}
    assert {chosen.config_of(s).refine for s in ("zero", "weak", "few")} == {"par"}
    assert segment.variant(refine="par").variant("cam").config.refine == "none"


def test_a_setting_that_is_not_read_is_said_where_it_is_asked_for(segment):
    chosen = segment.variant(alpha=2.5)  # names are decided by words here, which read no alpha
    assert chosen(picture(), CLASSES, tags=["cat"]).config["alpha"] == 2.5
    with pytest.raises(ValueError, match=r"setting 'zero'.*alpha: method 'naclip' decides by words and does not read"):
        chosen(picture(), CLASSES)
    with pytest.raises(ValueError, match=r"setting 'zero'.*the step affinity does not run"):
        segment.variant(**{"affinity.threshold": 0.7})(picture(), CLASSES)
    chosen = segment.variant(window=32)
    with pytest.raises(ValueError, match=r"setting 'weak'.*window.*does not read that"):
        chosen(picture(), CLASSES, tags=["cat"])
    with pytest.raises(ValueError, match=r"setting 'few'.*window"):
        chosen.bank([(picture(), np.ones((64, 80), np.uint8), "cat")])
    with pytest.raises(ValueError, match="did you mean 'alpha'"):
        segment.variant(alfa=2.0)
    with pytest.raises(ValueError, match=r"fewshot\.prior.*asked for names alone"):
        segment.variant(fewshot={"prior": 0.1}).ask(CLASSES, tags=[["cat"]])


def test_recommended_settings_that_nobody_reads_are_no_error():
    advice = {"window": 32, "alpha": 2.0, "fewshot": {"prior": 0.1}, "saliency.weight": 0.2, "head_presence": 0.3}
    quiet = Segmenter(backbone=backbone(advice), method="cam", short_side=64)
    assert quiet(picture(), CLASSES).config["alpha"] == 2.0 and quiet.config.fewshot.prior == 0.1


def test_settings_of_default_leave_the_models_out(segment):
    plain, bare = Segmenter(backbone=backbone(), settings_of="default"), Segmenter(backbone=backbone({}))
    for setting in ("zero", "weak", "few"):
        assert plain.config_of(setting) == bare.config == plain.config
    result = plain(picture(), CLASSES)
    assert np.array_equal(result.labels, bare(picture(), CLASSES).labels) and result.config["settings_of"] == "default"
    assert plain.variant(alpha=2.0).settings_of == "default"
    assert plain.variant(settings_of="model").config.short_side == 64
    assert segment.variant(settings_of="default").config == bare.config
    with pytest.raises(ValueError, match="settings_of='none'; choose one of model, default"):
        Segmenter(backbone=backbone(), settings_of="none")


def test_a_wrong_recommendation_names_the_models_file():
    with pytest.raises(ValueError, match=r"^tiny\.json: .*'alfa' is unknown"):
        Segmenter(backbone=backbone({"alfa": 2.0}))


def test_it_travels():
    made = Segmenter("nano", dtype="float32", settings_of="default", short_side=64)
    twin = pickle.loads(pickle.dumps(made))
    assert (twin.settings_of, twin.method, twin.config) == ("default", "default", made.config)
