"""The commands: options in, right run out; light at import."""

from __future__ import annotations

import subprocess
import sys

import layouts_eval as make
import pytest
from fakes_eval import FakeFewShot, FakeSegmenter, records
from typer.testing import CliRunner

from clipseg_ws.cli.app import app as APP
from clipseg_ws.config import parse_settings
from clipseg_ws.eval.bench import harness as bench
from clipseg_ws.eval.datasets.episodes import read_episodes
from clipseg_ws.eval.run.request import Request, run_request


def invoke(*arguments):
    return CliRunner().invoke(APP, [str(a) for a in arguments])


def test_the_commands_import_nothing_heavy():
    code = (
        "import sys, clipseg_ws.cli.eval; print([m for m in ('torch', 'pandas', 'numpy', 'scipy') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_eval_on_scenes_then_report(tmp_path):
    run = ("eval", "scenes", "--method", "noise", "--count", 3, "--size", 64, "-o", tmp_path, "--gallery", 0)
    first = invoke(*run)
    assert first.exit_code == 0 and "mIoU" in first.output and "3 pictures" in first.output
    assert "going on after 3 finished" in invoke(*run).output
    assert invoke("eval", "scenes", "--method=oracle", "--count", 2, "-o", tmp_path).exit_code == 0
    rows = records(tmp_path / "results.csv")
    assert [(r["method"], r["setting"]) for r in rows] == [("noise", "zero"), ("oracle", "oracle")]
    assert rows[1]["mIoU"] == "1.0"
    assert invoke("report", tmp_path).exit_code == 0 and (tmp_path / "report.html").is_file()


def test_shards_through_the_command(tmp_path):
    run = ("eval", "scenes", "--method", "noise", "--count", 3, "--size", 64, "-o", tmp_path, "--shard")
    assert "still missing: 1-of-2" in invoke(*run, "2/2").output and not (tmp_path / "results.csv").exists()
    assert invoke(*run, "1/2").exit_code == 0 and records(tmp_path / "results.csv")[0]["n_images"] == "3"


def test_list_prepare_and_episodes(tmp_path):
    assert "voc-animals" in invoke("eval", "list").output
    base = tmp_path / "data" / "coco_stuff164k" / "annotations" / "val2017"
    make.mask(base / "1.png", make.stripes(0, 91))
    done = invoke("eval", "prepare", "coco-object", "--root", tmp_path / "data")
    assert done.exit_code == 0 and "1 made, 0 already there" in done.output
    out = tmp_path / "e.csv.gz"
    make.plain(tmp_path / "plain", {n: make.stripes(0, 1) for n in "abc"})
    drawn = invoke("eval", "episodes", "folder", "--root", tmp_path / "plain", "-o", out, "--shots", 2, "--count", 3)
    assert drawn.exit_code == 0, drawn.output
    assert len(read_episodes(out)) == 3 and len(read_episodes(out)[0].supports) == 2


def test_methods_share_one_segmenter_and_get_the_protocol(tmp_path):
    make.plain(tmp_path / "data", {"a": make.stripes(0, 1), "b": make.stripes(0, 2)})
    said, made = [], []

    def factory(model, **given):
        made.append((model, given))
        return FakeSegmenter(model, **{k: v for k, v in given.items() if k not in ("device", "dtype", "offline")})

    request = Request(
        "folder", setting="weak", method="cam,clip-es", root=tmp_path / "data", output=tmp_path / "out",
        protocol="clip-es", set_=["alpha=2"], batch_size=2, model="ViT-B-16-quickgelu/openai",
    )  # fmt: skip
    assert run_request(request, said.append, factory) == 0
    ((model, given),) = made
    assert model == "ViT-B-16-quickgelu/openai" and given["method"] == "cam" and given["alpha"] == 2
    assert "affinity.threshold" not in given and given["templates"] == "clip-es" and given["keep_maps"]
    assert given["cache_mb"] >= 64 and given["batch_size"] == 2
    rows = records(tmp_path / "out" / "results.csv")
    assert [r["method"] for r in rows] == ["cam", "clip-es"] and rows[0]["threshold"] == "(1-max)^2"
    assert any("best of 14 backgrounds" in line for line in said)


def test_without_background_the_segmenter_is_told_so(tmp_path):
    make.context(tmp_path, {"a": make.stripes(1, 59)})
    made = []

    def factory(model, *, device, dtype, offline, **given):
        made.append(given)
        return FakeSegmenter(model, **given)

    request = Request("context59", root=tmp_path, output=tmp_path / "out", model="ViT-B-16-quickgelu/openai")
    run_request(request, print, factory)
    assert made[0]["background_rule"] == "constant" and made[0]["background_threshold"] == 0.0


def test_few_shot_through_the_request(tmp_path):
    make.plain(tmp_path / "data", {n: make.stripes(0, 1) for n in "abc"})
    request = Request("folder", setting="few-1", root=tmp_path / "data", output=tmp_path / "out", count=4, gallery=0,
                      model="ViT-B-16-quickgelu/openai")  # fmt: skip

    def factory(model, *, device, dtype, offline, **given):
        return FakeFewShot(model, **given)

    assert run_request(request, print, factory) == 0
    (row,) = records(tmp_path / "out" / "results.csv")
    assert (row["shots"], row["seed"], row["mIoU"], row["n_images"]) == ("1", "0", "1.0", "4")


def test_failures_make_the_exit_code_one(tmp_path):
    make.plain(tmp_path / "data", {"a": make.stripes(0, 1), "b": make.stripes(0, 2)})
    (tmp_path / "data" / "images" / "a.jpg").write_bytes(b"broken")
    done = invoke("eval", "folder", "--root", tmp_path / "data", "--method", "noise", "-o", tmp_path / "out")
    assert done.exit_code == 1 and "1 pictures failed, listed in" in done.output


def test_shards_count_from_one(tmp_path):
    for wrong in ("0/4", "5/4", "1"):
        with pytest.raises(ValueError, match="counting starts at 1"):
            run_request(Request("scenes", method="noise", shard=wrong, output=tmp_path), print)
    assert "counts from 1" in " ".join(invoke("eval", "run", "--help").output.replace("│", " ").split())


def test_settings_are_read_as_yaml():
    assert parse_settings(["alpha=2", "affinity=false", "refine=pamr"]) == {
        "alpha": 2,
        "affinity": False,
        "refine": "pamr",
    }
    with pytest.raises(ValueError, match="has no '='"):
        parse_settings(["alpha"])
    with pytest.raises(ValueError, match=r"data set 'voc' is unknown; .*choose one of voc21"):
        run_request(Request("voc"), print)


def test_the_bench_measures_perfect_predictions():
    result = bench.bench_eval(count=12)
    assert result["images"] == 12 and result["mIoU"] == 1.0 and result["plain"] > 0 < result["with_boundary"]


def test_the_real_segmenter_encodes_a_picture_once_for_several_methods(tmp_path, tiny_backbone, monkeypatch):
    from clipseg_ws import Segmenter

    encoded = []
    plain = type(tiny_backbone).encode
    monkeypatch.setattr(type(tiny_backbone), "encode", lambda self, *a, **k: encoded.append(1) or plain(self, *a, **k))

    def factory(model, *, device, dtype, offline, **given):
        return Segmenter(backbone=tiny_backbone, **given)

    request = Request("scenes", setting="weak", method="cam,clip-es", count=3, size=64, output=tmp_path, gallery=0)
    assert run_request(request, print, factory) == 0
    rows = records(tmp_path / "results.csv")
    assert len(encoded) == 3 and [r["method"] for r in rows] == ["cam", "clip-es"]
    assert [r["refine"] for r in rows] == ["none", "affinity"] and rows[0]["templates"] == "clip-es"
    assert all(r["weights_sha256"] for r in rows) and len(records(tmp_path / "thresholds.csv")) == 28


@pytest.mark.parametrize("setting", ["zero", "weak"])
def test_the_embedded_model_on_scenes(tmp_path, setting):
    from clipseg_ws.embedded.nano import WEIGHTS

    if not WEIGHTS.is_file():
        pytest.skip("the embedded model is not trained yet")
    for method in ("default", "noise"):
        assert run_request(Request("scenes", setting, method, count=4, output=tmp_path, gallery=0), print) == 0
    own, floor = records(tmp_path / "results.csv")
    assert own["backbone"] == "nano" and own["labels_read"] == ("tags" if setting == "weak" else "none")
    assert float(own["mIoU"]) > 5 * float(floor["mIoU"]) and float(own["pixel_accuracy"]) > 0.5


def test_voc21_with_five_methods_in_one_pass_writes_complete_rows(tiny_backbone, tmp_path, monkeypatch):
    """A small random CLIP: no claim about the numbers, all about the rows."""
    from clipseg_ws import Segmenter

    monkeypatch.setenv("CLIPSEG_WS_CACHE", str(tmp_path / "cache"))
    root = make.voc(tmp_path / "data", {"a": make.stripes(0, 8, 255), "b": make.stripes(0, 12)})
    methods = ["default", "sclip", "naclip", "clearclip", "maskclip"]

    def factory(model, *, device, dtype, offline, **given):
        return Segmenter(backbone=tiny_backbone, **given)

    request = Request(
        "voc21", "zero", ",".join(methods), root=root, output=tmp_path / "out", gallery=0, limit=2,
        set_=["templates=plain", "short_side=64", "window=48", "stride=24", "attention_blocks=2"],
        model="ViT-B-16-quickgelu/openai",
    )  # fmt: skip
    assert run_request(request, print, factory) == 0
    rows = records(tmp_path / "out" / "results.csv")
    assert [r["method"] for r in rows] == methods and len({r["run_id"] for r in rows}) == 5
    for row in rows:
        empty = {key for key, value in row.items() if value == ""}
        assert empty <= {"fold", "shots", "seed", "stride"} and row["labels_read"] == "none" and row["n_failed"] == "0"
        assert (row["n_images"], row["prompts"], row["background"]) == ("2", "voc-zero", "stuff26")
        assert 0 <= float(row["mIoU"]) <= 1 and float(row["seconds_per_image"]) > 0
    assert rows[2]["refine"] == "pamr" and rows[0]["refine"] == "affinity+guided"
