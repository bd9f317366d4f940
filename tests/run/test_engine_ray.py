"""A real local Ray cluster with two workers: the same files, the same failures, the same resume, the same numbers."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipseg_ws import Segmenter, WeakLabels
from clipseg_ws.output.answers import FILE as ANSWERS
from clipseg_ws.pictures.sources import list_sources
from clipseg_ws.run.folder import run_folder
from clipseg_ws.run.made_with import FILE
from clipseg_ws.run.pseudo import make_pseudo
from clipseg_ws.run.ray_pool import _pool, stream

ray = pytest.importorskip("ray", reason="the extra 'ray' is not installed")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Two cores, so two actors of half a core."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLIPSEG_WS_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.chdir(tmp_path_factory.mktemp("elsewhere"))  # Ray's workers import from the working folder first
        ray.init(
            num_cpus=2, num_gpus=0, object_store_memory=100_000_000, include_dashboard=False, log_to_driver=False,
            logging_level=40,
        )  # fmt: skip
        yield
        ray.shutdown()


@pytest.fixture(scope="module")
def segmenter(tiny_backbone, cluster):
    """Batches of one picture: then even the last digit does not depend on what shares a batch."""
    return Segmenter(backbone=tiny_backbone, attention_blocks=2, batch_size=1)


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Ten pictures of two sizes in two folders and one that is broken."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "sub").mkdir()
    rng = np.random.default_rng(0)
    for i in range(10):
        size = (48, 64, 3) if i % 2 else (64, 48, 3)
        place = folder / ("sub" if i > 6 else ".") / f"p{i}.png"
        Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)).save(place)
    (folder / "broken.jpg").write_text("not a picture")
    return folder


def files(folder: Path) -> dict[str, bytes]:
    """Everything below a folder but the record of models, whose lines come as pictures finish."""
    found = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != FILE]
    return {str(p.relative_to(folder)): p.read_bytes() for p in found}


def same(one: Path, other: Path) -> None:
    """The same files with the same bytes (archives: the same arrays)."""
    left, right = files(one), files(other)
    assert left.keys() == right.keys()
    for name in left:
        if name.endswith(".npz"):
            a, b = dict(np.load(one / name)), dict(np.load(other / name))
            assert all(np.array_equal(a[key], b[key]) for key in a)
        elif Path(name).name == ANSWERS:  # a row a picture, in the order in which they finished
            assert sorted(left[name].splitlines()) == sorted(right[name].splitlines()), name
        else:
            assert left[name] == right[name], name


def test_the_same_files_as_locally(cluster, segmenter, photos, tmp_path):
    """Begun locally, killed, gone on with Ray: what is there stays, the whole is what one undisturbed run writes."""
    sources, formats = list_sources(photos), ("png", "confidence", "json")
    local = run_folder(segmenter, sources, tmp_path / "local", segmenter.ask("cat; dog"), formats=formats)
    begun = [source for source in sources if source.relative.name in ("p1", "p8")]
    run_folder(segmenter, begun, tmp_path / "ray", segmenter.ask("cat; dog"), formats=formats)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "ray").rglob("p*")}
    rest = run_folder(segmenter, sources, tmp_path / "ray", segmenter.ask("cat; dog"), formats=formats, engine="ray")
    assert (rest.total, rest.done, rest.failed, rest.skipped) == (11, 8, 1, 2)
    same(tmp_path / "local", tmp_path / "ray")  # errors.csv too
    assert all(p.stat().st_mtime_ns == t for p, t in before.items())
    assert sum(local.pixels.values()) == local.size and rest.size == 8 * 48 * 64
    assert next(csv.DictReader((tmp_path / "ray" / "errors.csv").open()))["error"] == "ImageError"


def test_pseudo_masks(cluster, segmenter, photos, tmp_path):
    sources = [s for s in list_sources(photos) if not str(s).endswith("broken.jpg")]
    table = {str(s): ("cat",) if i % 2 else ("cat", "dog") for i, s in enumerate(sources)}

    def weak(source):  # a closure, as the command line makes them
        return WeakLabels(tags=table[str(source)])

    kept = segmenter.variant(keep_maps=True)
    for engine in ("local", "ray"):
        made = make_pseudo(
            kept, sources, tmp_path / engine, weak, kept.ask("cat; dog"), confidence=0.6, maps=True, engine=engine
        )
        assert made.run.done == 10 and 0 < made.ignored < made.pixels == 10 * 48 * 64
    same(tmp_path / "local", tmp_path / "ray")


def test_examples_travel(cluster, segmenter, photos, tmp_path):
    mask = np.zeros((48, 64), np.uint8)
    mask[10:30, 10:40] = 1
    bank = segmenter.bank([(str(photos / "p1.png"), mask, "cat")])
    sources = [s for s in list_sources(photos) if s.relative.name in ("p2", "p3", "p8")]
    for engine in ("local", "ray"):
        done = run_folder(
            segmenter,
            sources,
            tmp_path / engine,
            segmenter.ask(supports=bank),
            formats=("png", "confidence"),
            engine=engine,
        )
        assert (done.done, done.failed) == (3, 0)
    same(tmp_path / "local", tmp_path / "ray")


def test_evaluation_merges_confusion_matrices(cluster, tmp_path):
    from clipseg_ws.eval.run.request import Request, run_request
    from clipseg_ws.eval.tables import read_table

    for engine in ("local", "ray"):
        request = Request("scenes", "weak", "default", output=tmp_path / engine, count=6, size=64, batch_size=2,
                          gallery=0, dtype="float32", device="cpu", engine=engine)  # fmt: skip
        assert run_request(request, lambda text: None) == 0
    varying = ("time", "seconds_per_image", "images_per_second", "peak_memory_mb")
    rows = [read_table(tmp_path / engine / "results.csv").iloc[0] for engine in ("local", "ray")]
    assert float(rows[0]["mIoU"]) > 0
    assert {k: v for k, v in rows[0].items() if k not in varying} == {
        k: v for k, v in rows[1].items() if k not in varying
    }
    for name in ("per_class.csv", "thresholds.csv"):
        assert (tmp_path / "local" / name).read_bytes() == (tmp_path / "ray" / name).read_bytes()


def test_a_dying_worker_costs_its_own_batch_only_and_a_fault_is_raised(cluster, tmp_path):
    class Doubling:  # local, so that it travels by value
        def __call__(self, items):
            (tmp_path / str(os.getpid())).touch()
            if 13 in items:
                os._exit(1)
            if 99 in items:
                raise KeyError("no such number")
            return [2 * item for item in items]

    assert sorted(stream(Doubling, [*range(10), 13], 1)) == [2 * i for i in range(10)]
    assert len(list(tmp_path.iterdir())) >= 2  # more than one process worked
    with pytest.raises(RuntimeError, match="no such number"):
        list(stream(Doubling, [1, 99], 1))


def test_pool_sizes():
    assert _pool({"CPU": 2}, "auto") == (2, {"num_cpus": 0.5})
    assert _pool({"CPU": 32}, "cpu") == (31, {"num_cpus": 1})
    assert _pool({"CPU": 32, "GPU": 8}, "auto") == (8, {"num_gpus": 1, "num_cpus": 0})
    assert _pool({"CPU": 32, "GPU": 8}, "cpu") == (31, {"num_cpus": 1})


def test_an_unknown_engine_is_refused(segmenter, photos, tmp_path):
    with pytest.raises(ValueError, match="engine 'spark' is unknown; choose one of local, ray"):
        run_folder(segmenter, list_sources(photos), tmp_path, segmenter.ask("cat"), engine="spark")
    assert not list(tmp_path.iterdir())
