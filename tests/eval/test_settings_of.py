"""Evaluations with and without what a model recommends are different runs; a model must be named."""

from __future__ import annotations

import layouts_eval as make
import pytest
from conftest import tiny_clip
from fakes_eval import records

from clipseg_ws import Segmenter
from clipseg_ws.backbones import ModelCard, wrap
from clipseg_ws.eval.guard import parse_setting
from clipseg_ws.eval.predictors.segmenter import SegmenterPredictor
from clipseg_ws.eval.run.request import Request, run_request
from clipseg_ws.stages.reading import readable
from clipseg_ws.text.vocabulary import parse_classes

ADVICE = {"short_side": 48, "alpha": 3.0, "settings": {"weak": {"alpha": 5.0}, "few": {"alpha": 7.0}}}


@pytest.fixture(scope="module")
def backbone():
    return wrap(tiny_clip(), name="tiny", card=ModelCard(ADVICE))


def run(backbone, out, method, **more):
    def factory(model, *, device, dtype, offline, **given):
        return Segmenter(backbone=backbone, **given)

    request = Request("scenes", setting="weak", method=method, count=2, size=64, output=out, gallery=0,
                      boundary=False, sweep=False, set_=["refine=none"], **more)  # fmt: skip
    assert run_request(request, lambda text: None, factory) == 0
    return records(out / "results.csv")


def test_settings_of_default_is_another_run_and_the_row_says_so(backbone, tmp_path):
    run(backbone, tmp_path, "default")
    rows = run(backbone, tmp_path, "default", settings_of="default")
    assert [row["method"] for row in rows] == ["default", "default+settings_of=default"]
    assert [row["resize"] for row in rows] == ["48", "original"]
    assert [row["threshold"] for row in rows] == ["(1-max)^5.0", "(1-max)^1.0"]
    assert len({row["run_id"] for row in rows}) == 2
    both = run(backbone, tmp_path / "both", "default+settings_of=default,default,cam")
    assert [(row["method"], row["resize"]) for row in both] == [
        ("default+settings_of=default", "original"), ("default", "48"), ("cam", "48")
    ]  # fmt: skip
    assert {row["mIoU"] for row in rows} == {row["mIoU"] for row in both[:2]}


def test_without_advice_it_is_another_run_all_the_same(tmp_path):
    plain = wrap(tiny_clip(), name="tiny")
    run(plain, tmp_path, "cam")
    rows = run(plain, tmp_path, "cam", settings_of="default")
    assert rows[0]["mIoU"] == rows[1]["mIoU"] and rows[0]["run_id"] != rows[1]["run_id"]


def test_an_unknown_source_is_refused(backbone, tmp_path):
    with pytest.raises(ValueError, match="settings_of='nobody'; choose one of model, default"):
        run(backbone, tmp_path, "cam", settings_of="nobody")


@pytest.mark.parametrize(("name", "alpha"), [("zero", 3.0), ("weak", 5.0), ("boxes", 5.0), ("few-1", 7.0),
                                             ("weak-few-5", 7.0)])  # fmt: skip
def test_identity_and_row_hold_what_answers_in_the_setting(backbone, name, alpha):
    predictor = SegmenterPredictor(Segmenter(backbone=backbone), parse_setting(name), parse_classes("cat"))
    assert predictor.describe()["config"]["alpha"] == alpha
    assert predictor.columns()["threshold"] == f"(1-max)^{alpha}"


def test_a_model_must_be_named(tmp_path):
    make.plain(tmp_path / "data", {"a": make.stripes(0, 1)})
    with pytest.raises(ValueError, match="eval folder needs a model: --model ViT-B-16-quickgelu/openai, or --model p"):
        run_request(Request("folder", method="cam,noise", root=tmp_path / "data", output=tmp_path), print)
    assert not (tmp_path / "results.csv").exists()


def test_what_is_read_hangs_on_what_is_recommended():
    advice = {"fusion": None, "templates": "plain", "settings": {"zero": {"method": "naclip"}}}
    given = {"background_rule": "constant", "background_threshold": 0.0, "alpha": 2.0}
    assert readable("default", given, recommended=advice, setting="zero") == {"background_threshold": 0.0}
    assert readable("default", given, recommended=advice, setting="weak").keys() == {
        "background_rule", "background_threshold"
    }  # fmt: skip
