"""Methods with settings: how they are written, and that they reach the Segmenter and the row."""

from __future__ import annotations

import pytest
from fakes_eval import records

from clipseg_ws.eval.predictors.names import parse_method, split_methods
from clipseg_ws.eval.run.request import Request, run_request


def test_written():
    text = "default, default+looks=[1,1.5]+looks.flip=true,cam"
    assert split_methods(text) == ["default", "default+looks=[1,1.5]+looks.flip=true", "cam"]
    assert split_methods("") == []
    assert parse_method("default+looks=[1,1.5]+looks.flip=true") == (
        "default", {"looks": [1, 1.5], "looks.flip": True}
    )  # fmt: skip
    assert parse_method("cam") == ("cam", {})
    with pytest.raises(ValueError, match=r"'flip' has no '='.*default\+alpha=2"):
        parse_method("default+flip")


def test_through_the_harness(tmp_path):
    methods = "default+refine=none,default+refine=none+looks=[1,0.8],default+refine=none+alpha=9"
    request = Request(
        "scenes", setting="weak", method=methods, output=tmp_path, split="validation", count=2, size=64,
        dtype="float32", boundary=False, sweep=False, gallery=0, set_=["short_side=64"],
    )  # fmt: skip
    assert run_request(request, lambda text: None) == 0
    rows = records(tmp_path / "results.csv")
    assert [row["method"] for row in rows] == split_methods(methods)
    assert {row["split"] for row in rows} == {"validation"} and {row["n_images"] for row in rows} == {"2"}
    assert rows[0]["refine"] == "affinity" and rows[2]["threshold"] == "(1-max)^9.0"
    assert len({row["run_id"] for row in rows}) == 3 and all("[" not in row["run_id"] for row in rows)
