"""Runs end to end: right numbers, nothing read that may not be read, and nothing lost or counted twice."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import layouts_eval as make
import numpy as np
import pytest
import torch
import yaml
from fakes_eval import FakeFewShot, FakeSegmenter, records
from torchmetrics.classification import MulticlassJaccardIndex

from clipseg_ws.eval.datasets.load import load_dataset
from clipseg_ws.eval.guard import ProtocolViolation, parse_setting
from clipseg_ws.eval.predictors import Prediction
from clipseg_ws.eval.predictors.checks import Noise, Oracle
from clipseg_ws.eval.predictors.segmenter import SegmenterPredictor
from clipseg_ws.eval.protocols import load_protocol
from clipseg_ws.eval.run.evaluation import Options, RunFailed, evaluate
from clipseg_ws.eval.tables import COLUMNS, put_rows
from clipseg_ws.fewshot.supports import NothingFound


def random_folder(root: Path, count: int = 12, setting: str = "zero"):
    """A folder data set with cats and dogs, two sizes, ignored pixels."""
    masks = {}
    for i in range(count):
        rng = np.random.default_rng(i)
        size = make.SIZE if i % 2 else make.SIZE[::-1]
        masks[f"p{i:03d}"] = rng.choice([0, 1, 2, 255], size, p=[0.4, 0.3, 0.2, 0.1]).astype(np.uint8)
    make.plain(root, masks)
    return load_dataset("folder", root, setting=setting)


def segmenter(dataset, fake=None, **config):
    fake = fake or FakeSegmenter(**config)
    return SegmenterPredictor(fake, dataset.setting, dataset.vocabulary, background=dataset.background)


class Shifted:
    """The truth moved by a few pixels."""

    name = "shifted"

    def describe(self):
        return {"method": self.name}

    columns = describe

    def predict(self, samples):
        moved = [np.roll(sample.labels.masks(), (3, 5), (0, 1)) for sample in samples]
        return [Prediction(np.where(labels == 255, 0, labels)) for labels in moved]


def test_real_masks_as_predictions_score_one_and_shifted_ones_agree_with_torchmetrics(shared, tmp_path):
    data = load_dataset("voc21", shared / "data" / "voc_subset", setting="oracle").limited(60)
    perfect, shifted = evaluate(data, [Oracle(), Shifted()], tmp_path)
    for key in ("mIoU", "pixel_accuracy", "fb_iou", "boundary_iou"):
        assert perfect[key] == 1.0
    assert perfect["labels_read"] == "masks" and perfect["n_images"] == 60
    metric = MulticlassJaccardIndex(21, average="none", ignore_index=255)
    for id in data.ids:
        truth = torch.from_numpy(data.truth(id).astype(np.int64))
        moved = torch.roll(truth, (3, 5), (0, 1))
        metric.update(torch.where(moved == 255, 0, moved)[None], truth[None])
    seen = [r for r in records(tmp_path / "per_class.csv") if r["run_id"] == shifted["run_id"]]
    counted = [
        (float(row["iou"]), oracle.item()) for row, oracle in zip(seen, metric.compute(), strict=True) if row["iou"]
    ]
    assert len(counted) > 5
    np.testing.assert_allclose(*zip(*counted, strict=True), atol=1e-6)
    assert (
        shifted["mIoU"] == pytest.approx(np.mean([oracle for _, oracle in counted]), abs=1e-6)
        and shifted["mIoU"] < 0.95
    )


def test_every_column_and_table_is_written(tmp_path):
    data = random_folder(tmp_path / "data", setting="weak")
    (row,) = evaluate(data, [segmenter(data, keep_maps=True)], tmp_path / "out", options=Options(sweep=True, gallery=2))
    assert tuple(row) == COLUMNS
    assert (tmp_path / "out" / "results.csv").read_text().splitlines()[0] == ",".join(COLUMNS)
    assert row["labels_read"] == "tags from masks" and row["setting"] == "weak" and row["n_images"] == 12
    assert (row["backbone"], row["weights"]) == ("ViT-B-16-quickgelu", "openai") and row["threshold"] == "(1-max)^1.0"
    assert row["logit_scale"] == 100.0 and row["window"] == "whole" and row["crf"] == "no" and row["refine"] == "none"
    assert row["dtype"] == "float32" and row["device"] == "cpu" and row["templates"] == "clip-es"
    assert row["boundary_iou"] and row["seconds_per_image"] > 0 and row["peak_memory_mb"] > 0
    out, run = tmp_path / "out", row["run_id"]
    classes = records(out / "per_class.csv")
    assert [r["class"] for r in classes] == ["background", "cat", "dog"]
    assert np.mean([float(r["iou"]) for r in classes]) == pytest.approx(row["mIoU"])
    total = sum((data.truth(id) != 255).sum() for id in data.ids)
    assert sum(int(r["pixels"]) for r in classes) == total
    assert len(records(out / "thresholds.csv")) == 14
    assert {r["id"] for r in records(out / "images" / f"{run}.csv")} == set(data.ids)
    config = yaml.safe_load((out / "configs" / f"{run}.yaml").read_text())
    assert config["predictor"]["config"]["alpha"] == 1.0 and config["setting"] == "weak" and config["made_with"]["code"]
    names = sorted(p.name for p in (out / "gallery" / run).glob("*.jpg"))
    assert len(names) == 4 and names[0].startswith("best-1") and not (out / "errors.csv").exists()
    stored = records(out / "results.csv")[0]
    assert float(stored["mIoU"]) == row["mIoU"]  # exact


@pytest.mark.parametrize(
    "config, columns",
    [
        ({"alpha": 2.0}, {"threshold": "(1-max)^2.0", "window": "whole", "stride": ""}),
        ({"background_rule": "constant", "background_threshold": 0.3}, {"threshold": "0.3"}),
        ({"background_rule": "prompts", "background_threshold": 0.3}, {"threshold": "prompts"}),
        (
            {"decision": "words", "background_threshold": 0.1, "window": 224, "stride": 112, "refine": "pamr"},
            {"threshold": "0.1", "window": 224, "stride": 112, "refine": "pamr"},
        ),
        (
            {"window": 224, "stride": 0, "steps": ["affinity"], "refine": "crf"},
            {"stride": 112, "refine": "affinity+crf"},
        ),
        ({"refine": "crf", "short_side": 336, "logit_scale": 40.0}, {"crf": "yes", "resize": 336, "logit_scale": 40.0}),
    ],
)
def test_columns_say_what_is_in_force(tmp_path, config, columns):
    found = segmenter(random_folder(tmp_path, 2), **config).columns()
    assert {key: found[key] for key in columns} == columns


def test_each_setting_hands_over_exactly_its_labels(tmp_path):
    random_folder(tmp_path / "data", 2)
    for name in ("zero", "weak", "boxes", "points", "scribbles"):
        data = load_dataset("folder", tmp_path / "data", setting=name)
        calls: list = []
        (row,) = evaluate(data, [segmenter(data, calls=calls)], tmp_path / name)
        first = calls[0]
        assert (first["tags"] is not None) == (name == "weak")
        assert (first["weak"] is not None) == (name in ("boxes", "points", "scribbles"))
        if first["weak"]:
            assert getattr(first["weak"][0], name) is not None and len(getattr(first["weak"][0], name))
        assert row["labels_read"] == {"zero": "none", "weak": "tags from masks"}.get(name, f"{name} from masks")


def test_a_method_that_reads_more_is_refused(tmp_path):
    data = random_folder(tmp_path / "data")
    with pytest.raises(ProtocolViolation, match="may read nothing"):
        evaluate(data, [Oracle()], tmp_path / "out")
    assert not (tmp_path / "out" / "results.csv").exists()
    with pytest.raises(ProtocolViolation, match="for --method oracle only"):
        segmenter(load_dataset("folder", tmp_path / "data", setting="oracle"))


def test_several_methods_in_one_pass_equal_single_runs(tmp_path):
    data = random_folder(tmp_path / "data")
    calls: list = []
    first = FakeSegmenter(calls=calls)
    both = evaluate(
        data, [segmenter(data, first), segmenter(data, first.variant("clip-es"))], tmp_path / "both",
        options=Options(batch_size=5),
    )  # fmt: skip
    assert [(call["method"], len(call["images"])) for call in calls] == [
        (m, n) for n in (5, 5, 2) for m in ("default", "clip-es")
    ]
    single = [evaluate(data, [segmenter(data, method=m)], tmp_path / m)[0] for m in ("default", "clip-es")]
    assert [r["mIoU"] for r in both] == [r["mIoU"] for r in single] and both[0]["mIoU"] != both[1]["mIoU"]
    assert [r["method"] for r in records(tmp_path / "both" / "results.csv")] == ["default", "clip-es"]


def test_the_sweep_equals_runs_at_each_threshold(tmp_path):
    data = random_folder(tmp_path / "data", setting="weak")
    evaluate(data, [segmenter(data, keep_maps=True)], tmp_path / "out", options=Options(sweep=True))
    swept = {(r["kind"], float(r["value"])): float(r["mIoU"]) for r in records(tmp_path / "out" / "thresholds.csv")}

    class At(FakeSegmenter):
        def _one(self, image, names):
            result = super()._one(image, names)
            background = np.full((1, *result.labels.shape), 0.3, np.float32)
            return replace(
                result, labels=np.concatenate([background, result.extras["maps"]]).argmax(0).astype(np.uint8)
            )

    (row,) = evaluate(data, [segmenter(data, At(keep_maps=True))], tmp_path / "at")
    assert swept["threshold", 0.3] == row["mIoU"] and len(set(swept.values())) > 3
    with pytest.raises(RunFailed, match="returns no maps to sweep"):
        evaluate(data, [segmenter(data)], tmp_path / "none", options=Options(sweep=True))


class Flaky(FakeSegmenter):
    """Fails on some pictures, until it is mended."""

    broken = ("p003", "p007")

    def _one(self, image, names):
        if Path(image).stem in self.broken:
            raise OSError("cannot read\nthis one")
        return super()._one(image, names)


def test_failures_are_listed_and_tried_again(tmp_path):
    data = random_folder(tmp_path / "data")
    fake = Flaky()
    (row,) = evaluate(data, [segmenter(data, fake)], tmp_path / "out", options=Options(batch_size=4))
    assert (row["n_images"], row["n_failed"]) == (10, 2)
    errors = records(tmp_path / "out" / "errors.csv")
    assert [(e["id"], e["error"]) for e in errors] == [(i, "OSError: cannot read this one") for i in Flaky.broken]
    rest = replace(data, ids=tuple(id for id in data.ids if id not in Flaky.broken))
    assert evaluate(rest, [segmenter(data)], tmp_path / "rest")[0]["mIoU"] == row["mIoU"]
    fake.broken = ()
    fake.calls.clear()
    (mended,) = evaluate(data, [segmenter(data, fake)], tmp_path / "out", options=Options(batch_size=4))
    assert mended["run_id"] == row["run_id"] and (mended["n_images"], mended["n_failed"]) == (12, 0)
    assert [Path(i).stem for call in fake.calls for i in call["images"]] == list(Flaky.broken)
    assert mended["mIoU"] == evaluate(data, [segmenter(data)], tmp_path / "whole")[0]["mIoU"]
    assert not records(tmp_path / "out" / "errors.csv") and len(records(tmp_path / "out" / "results.csv")) == 1


def test_a_damaged_truth_or_a_wrong_size_is_a_failure_of_that_picture(tmp_path):
    data = random_folder(tmp_path / "data", setting="oracle")
    (tmp_path / "data" / "masks" / "p001.png").write_bytes(b"no picture")

    class Cropping(Oracle):
        def predict(self, samples):
            cut = 1 if samples[0].id == "p002" else None
            return [Prediction(a.labels[cut:]) for a in super().predict(samples)]

    (row,) = evaluate(data, [Cropping()], tmp_path / "out")
    assert (row["mIoU"], row["n_images"], row["n_failed"]) == (1.0, 10, 2)
    text = " ".join(e["error"] for e in records(tmp_path / "out" / "errors.csv"))
    assert "cannot read" in text and "p001.png" in text and "the prediction is" in text


def test_a_run_that_only_fails_stops_early(tmp_path):
    data = random_folder(tmp_path / "data", 15)
    fake = Flaky()
    fake.broken = data.ids
    with pytest.raises(RunFailed, match="first 10 pictures all failed"):
        evaluate(data, [segmenter(data, fake)], tmp_path / "out")
    assert len(fake.calls) == 10 and not (tmp_path / "out" / "results.csv").exists()


def test_shards_are_merged_by_the_last_one(tmp_path):
    data = random_folder(tmp_path / "data", 11)
    said: list[str] = []
    rows = [
        evaluate(data, [Noise()], tmp_path / "out", options=Options(shard=(i, 3)), say=said.append)[0]
        for i in (3, 1, 2)
    ]
    assert rows[:2] == [None, None] and "still missing: 2-of-3" in said[-1]
    (whole,) = evaluate(data, [Noise()], tmp_path / "whole")
    changing = {"time", "seconds_per_image", "images_per_second", "peak_memory_mb"}
    assert {k: v for k, v in rows[2].items() if k not in changing} == {
        k: v for k, v in whole.items() if k not in changing
    }
    for name in ("per_class.csv", f"images/{whole['run_id']}.csv"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


class Stops(Noise):
    """Breaks in like Ctrl-C at some picture."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at, self.seen = at, []

    def predict(self, samples):
        if len(self.seen) == self.at:
            raise KeyboardInterrupt
        self.seen.append(samples[0].id)
        return super().predict(samples)


def test_a_run_goes_on_where_it_was_broken_off(tmp_path):
    data = random_folder(tmp_path / "data")
    options = Options(save_every=4)
    with pytest.raises(KeyboardInterrupt):
        evaluate(data, [Stops(10)], tmp_path / "out", options=options)
    rest = Stops(99)
    (row,) = evaluate(data, [rest], tmp_path / "out", options=options)
    assert rest.seen == list(data.ids[8:])  # two states of four pictures were saved
    assert row["mIoU"] == evaluate(data, [Noise()], tmp_path / "whole")[0]["mIoU"]
    again = Stops(0)
    assert (
        evaluate(data, [again], tmp_path / "out", options=options)[0] == row
    )  # nothing to do, not even the time changes
    anew = Stops(99)
    evaluate(data, [anew], tmp_path / "out", options=replace(options, overwrite=True))
    assert anew.seen == list(data.ids)


def test_another_program_or_another_configuration_begins_anew(tmp_path, monkeypatch):
    data = random_folder(tmp_path / "data")
    (row,) = evaluate(data, [Noise()], tmp_path)
    assert evaluate(data, [Noise(seed=1)], tmp_path)[0]["run_id"] != row["run_id"]
    assert evaluate(data, [Noise()], tmp_path, options=Options(limit=3))[0]["run_id"] != row["run_id"]
    monkeypatch.setattr("clipseg_ws.eval.run.scorer.code_hash", lambda: "other")
    said: list[str] = []
    anew = Stops(99)
    evaluate(data, [anew], tmp_path, say=said.append)
    assert "another version of the program" in said[0] and len(anew.seen) == 12


KILLED = """
import glob, os, signal, sys, time
import torch
torch.set_num_threads(1)
from clipseg_ws.eval.datasets.load import load_dataset
from clipseg_ws.eval.predictors.checks import Noise
from clipseg_ws.eval.run.evaluation import Options, evaluate
root, out, delays = sys.argv[1], sys.argv[2], [float(v) for v in sys.argv[3:]]

class Slow(Noise):
    def predict(self, samples):
        time.sleep(0.003)
        return super().predict(samples)

def saved():
    return [os.stat(path).st_mtime_ns for path in glob.glob(out + "/state/*/1-of-1.npz")]

data = load_dataset("folder", root)
for number, delay in enumerate(delays):
    before, child = saved(), os.fork()
    if not child:
        evaluate(data, [Slow()], out, options=Options(save_every=3), say=print)
        os._exit(0)
    while number > 1 and saved() == before:  # the first two at any moment, the others after some progress
        time.sleep(0.001)
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1]), "the run was over before the signal"
evaluate(data, [Slow()], out, options=Options(save_every=3), say=print)
"""


def test_a_run_killed_five_times_gives_the_undisturbed_number(tmp_path):
    data = random_folder(tmp_path / "data", 300)
    delays = np.random.default_rng().uniform(0, 0.1, 5).tolist()
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "data"), str(tmp_path / "out"), *map(str, delays)],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, f"{delays}: {done.stderr}"
    assert "going on after" in done.stdout and "another version" not in done.stdout, done.stdout
    (row,) = evaluate(data, [Noise()], tmp_path / "whole")
    (stored,) = records(tmp_path / "out" / "results.csv")
    for key in ("run_id", "mIoU", "pixel_accuracy", "fb_iou", "boundary_iou", "n_images"):
        assert stored[key] == str(row[key]), delays
    for name in ("per_class.csv", f"images/{row['run_id']}.csv"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_two_runs_at_once_on_one_table(tmp_path):
    data = random_folder(tmp_path / "data", 3)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda seed: evaluate(data, [Noise(seed)], tmp_path / "out"), range(8)))
    rows = records(tmp_path / "out" / "results.csv", COLUMNS)
    assert sorted(int(row["seed"]) for row in rows) == list(range(8))
    assert len(records(tmp_path / "out" / "per_class.csv")) == 24


def test_a_table_with_other_columns_is_not_touched(tmp_path):
    (tmp_path / "t.csv").write_text("run_id,score\nold,1\n")
    with pytest.raises(ValueError, match="another output folder"):
        put_rows(tmp_path / "t.csv", ("run_id", "mIoU"), [{"run_id": "a", "mIoU": 0.5}], "a")
    put_rows(tmp_path / "t.csv", ("run_id", "score"), [{"run_id": "a", "score": float("nan")}], "a")
    put_rows(tmp_path / "t.csv", ("run_id", "score"), [{"run_id": "old", "score": 0.1}], "old")
    assert (tmp_path / "t.csv").read_text() == "run_id,score\nold,0.1\na,\n"
    with pytest.raises(ValueError, match="too much or too little"):
        put_rows(tmp_path / "t.csv", ("run_id", "score"), [{"run_id": "b"}], "b")


@pytest.mark.parametrize("setting", ["few-1", "weak-few-2"])
def test_few_shot_runs(tmp_path, setting):
    make.plain(tmp_path / "data", {n: make.stripes(*v) for n, v in {"a": (0, 1), "b": (1, 2), "c": (0, 2, 1)}.items()})
    data = load_dataset("folder", tmp_path / "data", setting=setting, count=5)
    fake = FakeFewShot()
    words = data.sample("00000").classes
    (row,) = evaluate(
        data, [SegmenterPredictor(fake, data.setting, words)], tmp_path / "out", options=Options(gallery=1)
    )
    shots = parse_setting(setting).shots
    assert row["shots"] == shots and row["labels_read"] == ("support masks" if shots == 1 else "support tags")
    assert len(fake.calls[0]["supports"]) == shots and fake.calls[0]["classes"] == ["cat"]
    assert all((s.mask is None) == setting.startswith("weak") for s in fake.calls[0]["supports"])
    inter, union = np.zeros((2, 2)), np.zeros((2, 2))
    for id in data.ids:
        e = data.episode(id)
        support = data.mask(e.supports[0], e.class_id) if shots == 1 else np.ones(make.SIZE)
        truth = data.truth(id)
        for fg in (0, 1):
            inter[e.class_id, fg] += ((support == fg) & (truth == fg)).sum()
            union[e.class_id, fg] += ((support == fg) | (truth == fg)).sum()
    assert row["mIoU"] == pytest.approx((inter / union)[:, 1].mean())
    assert row["fb_iou"] == pytest.approx((inter.sum(0) / union.sum(0)).mean())
    assert [r["class"] for r in records(tmp_path / "out" / "per_class.csv")] == ["cat", "dog"]


def test_hsnet_scores_at_its_own_size(tmp_path):
    make.plain(tmp_path / "data", {"a": make.stripes(0, 1), "b": make.stripes(1, 0)})
    data = load_dataset("folder", tmp_path / "data", setting="few-1", count=2)
    fake = FakeFewShot()
    predictor = SegmenterPredictor(fake, data.setting, data.sample("00000").classes)
    protocol = load_protocol("hsnet", "pascal5i", "few")
    (row,) = evaluate(data, [predictor], tmp_path / "out", protocol=protocol)
    assert fake.calls[0]["supports"][0].mask.shape == (400, 400) and row["resize"] == "400x400"


def test_a_segmenter_without_supports_or_marks_says_so(tmp_path):
    class Plain(FakeSegmenter):
        def __call__(self, images, *, classes=None, background=None, tags=None):
            raise AssertionError

    data = random_folder(tmp_path / "data")
    for name, argument in (("few-1", "supports"), ("boxes", "weak")):
        with pytest.raises(ValueError, match=f"hands over {argument}=, which .* does not take; .*: weak, zero"):
            SegmenterPredictor(Plain(), parse_setting(name), data.vocabulary)


def test_a_data_set_without_background_asks_for_none(tmp_path):
    make.context(tmp_path / "data", {"a": make.stripes(0, 1, 59)})
    data = load_dataset("context59", tmp_path / "data")
    calls: list = []
    (row,) = evaluate(data, [segmenter(data, calls=calls)], tmp_path / "out")
    assert calls[0]["background"] == () and row["background"] == "none" and row["fb_iou"] != row["fb_iou"]
    assert records(tmp_path / "out" / "results.csv")[0]["fb_iou"] == ""
    assert len(records(tmp_path / "out" / "per_class.csv")) == 59


def test_an_episode_in_which_nothing_is_found_is_a_miss(tmp_path):
    class Blind(FakeFewShot):
        def __call__(self, images, *, classes=None, supports=None, **rest):
            if classes == ["dog"]:
                raise NothingFound("nothing of 'dog' was found")
            return super().__call__(images, classes=classes, supports=supports)

    make.plain(tmp_path / "data", {n: make.stripes(*v) for n, v in {"a": (0, 1), "b": (1, 2), "c": (0, 2, 1)}.items()})
    data = load_dataset("folder", tmp_path / "data", setting="weak-few-1", count=8)
    words = data.sample("00000").classes
    (row,) = evaluate(data, [SegmenterPredictor(Blind(), data.setting, words)], tmp_path / "out")
    assert row["n_failed"] == 0 and row["n_images"] == 8
    found = {r["class"]: float(r["iou"]) for r in records(tmp_path / "out" / "per_class.csv")}
    assert found["dog"] == 0 and found["cat"] > 0 and row["mIoU"] == pytest.approx(found["cat"] / 2)


@pytest.mark.parametrize("done", [1, 2, 3])
def test_a_method_that_is_added_gets_every_picture(tmp_path, done):
    """Of several methods some may have pictures behind them that others still need."""

    class Broken(Noise):
        def predict(self, samples):
            if int(samples[0].id) >= done:
                raise KeyboardInterrupt
            return super().predict(samples)

    make.plain(tmp_path / "data", {str(i): make.stripes(i % 3, (i + 1) % 3) for i in range(4)})
    data = load_dataset("folder", tmp_path / "data")
    with pytest.raises(KeyboardInterrupt):
        evaluate(data, [Broken(1)], tmp_path / "out", options=Options(save_every=1))
    rows = evaluate(data, [Noise(1), Noise(2)], tmp_path / "out")
    fresh = evaluate(data, [Noise(1), Noise(2)], tmp_path / "fresh")
    assert [row["mIoU"] for row in rows] == [row["mIoU"] for row in fresh]
    assert [row["n_images"] for row in rows] == [4, 4]
