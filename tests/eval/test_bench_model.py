"""The speed measurement itself: what it times is right, its tables are whole, and the command line prints them."""

from __future__ import annotations

import csv
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from clipseg_ws.cli.app import app
from clipseg_ws.eval.bench import model as bench
from clipseg_ws.eval.bench import parts as bench_parts

TINY = {
    "embed_dim": 32,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 224, "layers": 3, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12},
}


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """The architecture "tiny", as open_clip would know it."""
    import open_clip

    monkeypatch.setenv("CLIPSEG_WS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(open_clip, "get_model_config", lambda name: TINY if name == "tiny" else None)
    return "tiny"


def test_the_bare_backbone_is_open_clips(tiny):
    backbone = bench.random_backbone(tiny, "float32", torch.device("cpu"), 47)
    pixels = torch.randn(2, 3, 48, 64)
    with torch.no_grad():
        want = backbone.model.encode_image(pixels)
    assert torch.allclose(bench.bare(backbone, pixels), want, atol=1e-5)


def test_other_patches_are_timed_at_one_size_too(tiny, monkeypatch):
    """Both passes see the same grid where the patch does not divide the usual size."""
    monkeypatch.setitem(TINY, "vision_cfg", TINY["vision_cfg"] | {"patch_size": 14})
    backbone = bench.random_backbone(tiny, "float32", torch.device("cpu"), 383)
    seen = bench.Segmenter(backbone=backbone, short_side=383).prepare(np.zeros((375, 500, 3), np.uint8))
    assert backbone.native_grid == (28, 37) == seen.grid[0]


def test_rows(tiny):
    rows = bench.bench_model(tiny, device="cpu", batches=(1, 2), classes=(2, 3), rounds=2, short_side=47)
    assert [(r.dtype, r.batch, r.what, r.goal) for r in rows[:4]] == [
        ("float32", 1, "bare, fused attention", None), ("float32", 1, "bare, open_clip encode_image", None),
        ("float32", 1, "whole call, K=2", 1.25), ("float32", 1, "whole call, K=3", None),
    ]  # fmt: skip
    assert len(rows) == 2 * 2 * 4
    for group in (rows[i : i + 4] for i in range(0, 16, 4)):
        assert min(row.ratio for row in group[:2]) == 1.0
        assert all(row.fastest_ms <= row.median_ms for row in group)
    assert len(bench.speed_up(rows)) == 8
    table = list(csv.DictReader(bench.comma_separated(rows).splitlines()))
    assert len(table) == 16 and float(table[3]["ratio"]) == rows[3].ratio
    assert bench.markdown(rows).count("\n") == 17


def test_jobs_take_turns():
    seen = []
    jobs = {name: (lambda name=name: seen.append(name)) for name in "ab"}
    measured = bench.in_turn(jobs, 3, torch.device("cpu"))
    assert seen == list("abababab") and all(len(values) == 3 for values in measured.values())


def test_parts(tiny, monkeypatch):
    monkeypatch.setattr(bench_parts, "SHORT_SIDE", 47)
    rows = bench_parts.bench_parts(tiny, "float32", classes=(2,), rounds=1, device="cpu")
    assert rows[0].part == "bare backbone" and rows[0].share_of_bare == 1.0
    names = [row.part for row in rows]
    assert {"decode JPEG", "CAM, K=2", "affinity, K=2", "write png"} <= set(names)


def test_memory(tiny, monkeypatch):
    """Threads in place of processes, which would not know the architecture."""
    cases = (("default", (40, 56), 2, "tags"), ("maskclip", (40, 56), 30, "names"))
    monkeypatch.setattr(bench_parts, "MEMORY_CASES", cases)
    monkeypatch.setattr(bench_parts, "ProcessPoolExecutor", lambda count, mp_context: ThreadPoolExecutor(count))
    rows = bench_parts.bench_memory(tiny, "float32", device="cpu")
    assert [(r.method, r.picture, r.classes, r.asked) for r in rows] == [
        ("default", "56 x 40", 2, "tags"),
        ("maskclip", "56 x 40", 30, "names"),
    ]
    assert all(0 < row.loaded_mb <= row.peak_mb for row in rows)


def test_agreement_is_a_share():
    shares = bench_parts.agreement(scenes=1)
    assert 0.9 < shares["scenes"] <= 1


def test_command(tiny, tmp_path):
    arguments = ["bench", "--model", tiny, "--device", "cpu", "--rounds", "1", "--class-counts", "2"]
    arguments += ["-o", str(tmp_path)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "| tiny | bfloat16 | 1 | whole call, K=2 |" in result.output
    assert "tiny,bfloat16,1,whole call; K=2" in result.output
    assert len(list(csv.DictReader((tmp_path / "bench_timing.csv").open()))) == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "RN50"], "no open_clip ViT"),
        (["--dtype", "int8"], "dtype 'int8'"),
        (["--batches", ","], "names noth"),
    ],
)
def test_mistakes(tiny, arguments, message):
    result = CliRunner().invoke(app, ["bench", "model", "--device", "cpu", "--model", tiny, *arguments])
    assert result.exit_code == 1 and message in str(result.exception)
