"""What a model recommends: its order among the other settings, and that nothing in it is wrong in silence."""

from __future__ import annotations

import json

import pytest

from clipseg_ws.config import METHODS, Config, check_advice, resolve
from clipseg_ws.embedded.nano import CONFIG
from clipseg_ws.fewshot.options import FewShotConfig

NANO = json.loads(CONFIG.read_text())["clipseg_ws"]["recommended"]


def test_the_last_word_is_the_users():
    advice = {"alpha": 2.0, "min_area": 0.1, "presence_threshold": 0.1, "refine": "par"}
    advice |= {"methods": {"default": {"min_area": 0.2, "presence_threshold": 0.2}}}
    advice |= {"settings": {"weak": {"presence_threshold": 0.3}}}
    config = resolve("default", {}, advice, "weak")
    assert (config.alpha, config.min_area, config.presence_threshold, config.refine) == (2.0, 0.2, 0.3, "par")
    assert resolve("default", {}, advice, "zero").presence_threshold == 0.2
    assert resolve("default", {}, advice).presence_threshold == 0.2
    assert resolve("cam", {}, advice, "weak").presence_threshold == 0.1  # only the default stands for the setting
    assert resolve("default", {"presence_threshold": 0.4}, advice, "weak").presence_threshold == 0.4


def test_the_default_may_be_another_method_in_a_setting():
    advice = {"templates": "a {}.", "fusion": None, "settings": {"zero": {"method": "naclip", "refine": "par"}}}
    advice |= {"methods": {"naclip": {"logit_scale": 7.0}}}
    check_advice(advice, "F")
    zero, weak = resolve("default", {}, advice, "zero"), resolve("default", {}, advice, "weak")
    assert (zero.method, zero.decision, zero.refine, zero.logit_scale) == ("naclip", "words", "par", 7.0)
    assert (weak.method, weak.decision, weak.refine) == ("default", "maps", "guided")
    assert resolve("cam", {}, advice, "zero").method == "cam"


def test_few_shot_defaults_are_no_longer_those_of_drawings():
    plain = FewShotConfig()
    assert (plain.prior, str(plain.refit)) == (0.0, "none")


@pytest.mark.parametrize("method", METHODS)
def test_nano_keeps_what_was_chosen_on_drawings(method):
    few = resolve(method, {}, NANO).fewshot
    expected = ("none", 0.0, 0.0) if method == "prototypes" else ("prototypes", 0.3, 0.7)
    assert (str(few.refit), few.prior, few.text_weight) == expected
    assert few.presence_threshold == 0.4
    config = resolve(method, {}, NANO)
    assert config.short_side == 336 and len(config.background) == 8 and config.alpha == 4 - 2 * (method != "default")
    if method == "default":
        assert [str(s) for s in config.steps] == [
            "affinity(threshold=0.6, sinkhorn_iterations=3, exclude_last=false)", "competition(weight=0.25)"
        ]  # fmt: skip
        assert (config.activation, config.refine, config.presence_threshold) == ("fused", "guided", 0.25)


def test_everything_that_can_be_set_can_be_recommended():
    config = resolve("default", {"saliency": True, "short_side": 100, "fewshot": {"refit": "classifier(rounds=1)"}})
    plain = {key: value for key, value in config.as_dict().items() if key != "method"}
    check_advice(plain, "F")
    assert resolve("cam", {}, plain) == Config(**{**vars(config), "method": "cam"})


@pytest.mark.parametrize(
    ("advice", "message"),
    [
        ({"alfa": 2.0}, "'alfa' is unknown; did you mean 'alpha'"),
        ({"alpha": "2"}, "alpha='2' is str; a finite number is needed"),
        ({"alpha": None}, "a finite number is needed"),
        ({"short_side": 33.5}, "short_side=33.5"),
        ({"presence_threshold": 3}, r"a number in \[0, 1\]"),
        ({"background_rule": "words"}, "choose one of power, constant, prompts"),
        ({"background": "stuf"}, "unknown list 'stuf'"),
        ({"background": 3}, "background: got 3"),
        ({"templates": "a {"}, "needs exactly one {}"),
        ({"fusion": "min"}, "choose one of string, max"),
        ({"refine": "pamr(its=3)"}, "no parameter 'its'"),
        ({"affinity.treshold": 0.2}, "did you mean 'threshold'"),
        ({"saliency.weight": 3.0}, r"saliency.weight=3.0; a number in \(0, 1\]"),  # of a step that does not run
        ({"looks.scales": "big"}, "looks.scales"),
        ({"fewshot": {"refits": "none"}}, "'refits' is unknown"),
        ({"fewshot": {"refit": "protos"}}, "refit 'protos' is unknown"),
        ({"fewshot": {"kinds": 3}}, "a list of features"),
        ({"fewshot": 3}, "a mapping is needed"),
        ({"method": "cam"}, "'method' is unknown"),
        ({"methods": ["cam"]}, "settings by name are needed"),
        ({"methods": {"cams": {}}}, "did you mean 'cam'"),
        ({"methods": {"cam": 2}}, "cam=2; settings by name"),
        ({"methods": {"cam": {"alfa": 2}}}, "'alfa' is unknown"),
        ({"methods": {"cam": {"alpha": -1.0}}}, "positive number"),
        ({"settings": {"boxes": {}}}, "'boxes'; they can be for zero, weak, few"),
        ({"settings": {"weak": {"method": "cams"}}}, "did you mean 'cam'"),
        ({"settings": {"few": {"fewshot": {"prior": 2.0}}}}, "prior=2.0"),
        ({"settings": {"zero": {"templates": "a {}."}}}, "templates differs between zero, weak, few"),
        ({"settings": {"weak": {"method": "clip-es"}}}, "templates differs"),
    ],
)
def test_what_cannot_be_names_the_models_file(advice, message):
    with pytest.raises(ValueError, match=rf"^models/x\.json: .*{message}"):
        check_advice(advice, "models/x.json")
