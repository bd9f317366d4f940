"""Settings as users write them: any text gives a configuration or one clear error of the product's own."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from own_errors import described, is_own

from clipseg_ws.config import METHODS, Config, parse_settings, resolve
from clipseg_ws.config.settings import known_keys
from clipseg_ws.door import InputError
from clipseg_ws.heads.options import TrainConfig
from clipseg_ws.values import comments, read_pairs

ODD = [
    "abc", "maybe", "nan", ".nan", "inf", ".inf", "-.inf", "1e-1", "1e3", "1e999", "-1", "0", "0x10", "1_0", "1:30",
    "null", "~", "true", "no", "{}", "[]", "[a]", "[[1]]", "[.nan]", "[null]", "=", "<<", "%", "@", "2026-13-45", "a(b",
    "pamr(iterations=abc)", "pamr(iterations=1e400)", "none(x=1)", "prototypes(rounds=1e9)", "crf(a=[[[",
]  # fmt: skip
ODD += ["", "''", "{a: 1}", "{[1]: 2}", "? [1]: 2", "&a [*a]", "*x", "!!binary aGk=", "!!python/object:os.system x",
        "!!timestamp x", "!!int x", "!!float x", "2026-01-01 25:99:99", "\x00", "\ud800", "- a\n- b"]  # fmt: skip
ODD += ["9" * 400, "9" * 5000, "[" * 3000, "a" * 20_000]
LETTERS = st.text("0123456789.-+eEnaif[](){}:,=&*!'\"~ \n\\aß#|>%@`", max_size=30)
VALUES = st.one_of(st.sampled_from(ODD), LETTERS, st.text(max_size=20), st.floats().map(repr), st.integers().map(str))


def own(call):
    """What it gives, or None where it raises the product's own error; another error fails."""
    try:
        return call()
    except Exception as error:
        assert is_own(error) and "\n" not in str(error), described(error)
        return None


@given(st.sampled_from([*known_keys(), "method", "fewshot", "fewshot.steps", ".", "affinity.", "a.b.c", ""]), VALUES,
       st.sampled_from(list(METHODS)))  # fmt: skip
@settings(max_examples=400, deadline=None)
def test_any_setting_is_a_configuration_or_an_own_error(key, value, method):
    config = own(lambda: resolve(method, parse_settings([f"{key}={value}"])))
    if config is not None:
        assert own(lambda: resolve(method, {k: v for k, v in config.as_dict().items() if k != "method"})) is not None
        numbers = [v for v in config.as_dict().values() if isinstance(v, float)]
        assert all(map(math.isfinite, numbers))


@given(st.sampled_from([*TrainConfig().as_dict(), "x", ""]), VALUES)
@settings(max_examples=200, deadline=None)
def test_any_training_option_is_a_training_or_an_own_error(key, value):
    own(lambda: TrainConfig.of(**read_pairs([f"{key}={value}"], "--train", "lr=1e-3")))


@pytest.mark.parametrize("value", ODD)
@pytest.mark.parametrize("key", ["alpha", "short_side", "presence", "looks", "affinity.threshold", "fewshot.kinds"])
def test_known_odd_values(key, value):
    own(lambda: resolve("default", parse_settings([f"{key}={value}"])))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("alpha=abc", "alpha='abc' is str; a finite number is needed, e.g. alpha=1.0 (exponent of the power rule)"),
        ("looks.flip=maybe", "looks.flip='maybe' is str; true or false is needed, e.g. looks.flip=false"),
        ("alpha=.nan", "alpha=nan is float; a finite number"),
        ("min_area=.inf", "min_area=inf is float; a finite number is needed, e.g. min_area=0.0 (share of the picture"),
        ("short_side=-3", "short_side=-3; a whole number of at least 1 is needed (resize the short side"),
        ("short_side=99999999", "short_side=99999999; at most 65535"),
        ("fusion=nan", "fusion='nan' is unknown; choose one of string, max"),
        ("templates=.nan", "templates=nan; words are needed"),
        ("fewshot.prior=2", "prior=2.0; a number in [0, 1] is needed, for example 0.5 (share of the dense"),
        ("fewshot.kinds=[1]", "a list of features is needed, for example [input] (features compared together"),
        ("alpha=&a [*a]", "an alias stands for a value around itself"),
    ],
)
def test_the_error_says_what_the_setting_is(text, said):
    with pytest.raises(InputError) as caught:
        resolve("default", parse_settings(["looks=true", text]))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [("alpha=1e-1", "alpha", 0.1), ("max_patches=1e3", "max_patches", 1000), ("min_area=1e-4", "min_area", 1e-4),
     ("alpha=2", "alpha", 2.0), ("logit_scale=1E2", "logit_scale", 100.0)],
)  # fmt: skip
def test_numbers_as_people_write_them(text, key, value):
    found = getattr(resolve("default", parse_settings([text])), key)
    assert found == value and type(found) is type(value)


def test_every_field_has_a_comment():
    assert set(Config.__dataclass_fields__) - {"fewshot"} <= set(comments(Config))
