"""The training loop: learns, is deterministic, resumes exactly (also after SIGKILL), stops early, fails clearly."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers_heads import CLASSES, toy

from clipseg_ws.heads import HEADS, LOSSES
from clipseg_ws.heads.base import make_head
from clipseg_ws.heads.data import ArrayData, Joined, batch_order, by_grid, check_targets
from clipseg_ws.heads.estimator import SegmentationHead
from clipseg_ws.heads.metrics import evaluate
from clipseg_ws.heads.options import WEIGHED, TrainConfig
from clipseg_ws.heads.rows import TrainingFailed
from clipseg_ws.heads.training import Trainer

QUICK = {"steps": 30, "batch": 4, "lr": 3e-2, "warmup": 3, "ema": 0.5, "threshold": 0.6, "validate_every": 10}
SMALL = {"hidden": 8, "upsample": 2, "depth": 1}


@pytest.mark.parametrize("kind", HEADS)
def test_fit_learns_and_returns_self(kind):
    head = SegmentationHead(kind, options={key: SMALL[key] for key in SMALL if key in HEADS[kind].parameters}, **QUICK)
    assert head.fit(toy(), classes=CLASSES, validation=toy(6, seed=1)) is head
    assert head.classes_ == CLASSES and head.n_iter_ == 30 and len(head.history_) == 30
    assert head.best_miou_ > 0.8 and head.score(toy(6, seed=2)) > 0.8
    features = torch.stack([toy().features[0], toy().features[2]])
    proba = head.predict_proba(features, (9, 11))
    assert proba.shape == (2, 3, 9, 11) and torch.allclose(proba.sum(1), torch.ones(2, 9, 11), atol=1e-5)
    assert torch.equal(head.predict(features, (9, 11)), proba.argmax(1))


def test_params_as_in_scikit_learn():
    head = SegmentationHead("mlp", options=SMALL, lr=0.5)
    again = SegmentationHead(**head.get_params())
    assert again.get_params() == head.get_params()
    assert head.set_params(lr=0.25, kind="ocr") is head and head.training.lr == 0.25 and head.kind == "ocr"
    with pytest.raises(ValueError, match="not trained"):
        head.predict(torch.zeros(1, 2, 8, 3, 3))


def run(folder=None, steps=12, extra=None, data=None, **more):
    config = TrainConfig.of(**QUICK | {"steps": steps, "save_every": 5, "validate_every": 4} | more)
    head = make_head("decoder", 2, 8, 3, **SMALL)
    trainer = Trainer(head, data or toy(), config, validation=toy(4, seed=1), folder=folder, extra=extra)
    return trainer


def curve(trainer):
    return [(row["step"], row["loss"], row["lr"], row.get("miou")) for row in trainer.progress.history]


def test_same_seed_same_curve_and_other_seed_another():
    one, two, three = run(), run(), run(seed=1)
    for trainer in (one, two, three):
        torch.rand(3)  # what else draws numbers does not matter
        trainer.run()
    assert curve(one) == curve(two) != curve(three)


def test_resume_gives_the_same_curve_and_weights(tmp_path):
    whole = run(tmp_path / "whole")
    whole.run()
    broken = run(tmp_path / "broken")
    original, count = broken.step, []

    def step(batches):
        if len(count) == 8:  # the last checkpoint is after step 5
            raise KeyboardInterrupt
        count.append(1)
        return original(batches)

    broken.step = step
    with pytest.raises(KeyboardInterrupt):
        broken.run()
    resumed = run(tmp_path / "broken")
    module = resumed.run()
    assert curve(resumed) == curve(whole)
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), whole.result().parameters(), strict=True))
    assert logged(tmp_path / "broken") == logged(tmp_path / "whole")
    with pytest.raises(ValueError, match="other settings"):
        run(tmp_path / "broken", lr=1.0).run()


def test_soft_weights_of_a_checkpoint(tmp_path):
    """With "soft" every pixel counts, so only its confidence shows that masks were made anew."""
    labels = np.tile(np.arange(3, dtype=np.uint8), 32).reshape(2, 6, 8)
    features, sure = torch.randn(2, 2, 8, 3, 4), np.full(labels.shape, 0.8)

    def fit(confidence):
        head = SegmentationHead("linear", **QUICK | {"weighting": "soft"})
        return head.fit(features, labels, confidence, classes=CLASSES, folder=tmp_path)

    assert fit(sure).history_ == fit(sure).history_
    with pytest.raises(ValueError, match=r"other settings .data: "):
        fit(np.full(labels.shape, 0.6))


def logged(folder):
    with open(folder / "log.csv", newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


SCRIPT = """
import sys, time
sys.path.insert(0, {here!r})
from test_training import run
from pathlib import Path
trainer = run(Path({folder!r}), steps=40)
step = trainer.step
def slow(batches):
    time.sleep({pause})
    return step(batches)
trainer.step = slow
trainer.run()
"""


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
def test_sigkill_and_resume_give_the_undisturbed_curve(tmp_path):
    run(tmp_path / "whole", steps=40).run()
    code = SCRIPT.format(here=str(Path(__file__).parent), folder=str(tmp_path / "killed"), pause=0.05)
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        log = tmp_path / "killed" / "log.csv"
        end = time.monotonic() + 60
        while time.monotonic() < end and (not log.exists() or len(log.read_text().splitlines()) < 14):
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    before = logged(tmp_path / "killed")
    assert 12 <= len(before) < 40
    resumed = run(tmp_path / "killed", steps=40)
    resumed.run()
    assert logged(tmp_path / "killed") == logged(tmp_path / "whole")


def test_accumulated_batches_equal_one_large_batch():
    data = toy(8, grids=((4, 5),))
    index = [0, 1, 2, 3, 4, 5, 6, 7]
    one = run(data=data, batch=8, ema=0, seed=3)
    two = run(data=data, batch=4, accumulate=2, ema=0, seed=3)
    for trainer in (one, two):
        trainer.head.trunk.drop.p = 0.0
    a = one.step([data.batch(index, (0,))])
    b = two.step([data.batch(index[:4], (0,)), data.batch(index[4:], (0,))])
    assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)
    assert all(
        torch.allclose(x, y, atol=1e-4) for x, y in zip(one.head.parameters(), two.head.parameters(), strict=True)
    )


def test_early_stop_keeps_the_best_weights():
    noise = toy(8, seed=5, noise=8.0)  # nothing to learn, the validation score soon stops rising
    trainer = run(steps=400, patience=2, data=noise, lr=0.05)
    module = trainer.run()
    assert trainer.progress.stopped and trainer.progress.step < 400
    assert evaluate(module, toy(4, seed=1)) == pytest.approx(trainer.progress.best)


def test_ema_and_schedule():
    trainer = run(ema=0.0, steps=10, warmup=2)
    assert [round(trainer.rate(s) / trainer.config.lr, 3) for s in (0, 1, 2, 6)] == [0.5, 1.0, 1.0, 0.5]
    trainer.step(trainer.batch(0))
    assert all(torch.equal(a, b) for a, b in zip(trainer.mean.parameters(), trainer.head.parameters(), strict=True))


def test_bfloat16_learns():
    head = SegmentationHead("decoder", options=SMALL, **QUICK | {"precision": "bfloat16"}).fit(toy(), classes=CLASSES)
    assert head.score(toy(6, seed=2)) > 0.7
    assert all(p.dtype == torch.float32 for p in head.module_.parameters())


@pytest.mark.parametrize("term", [name for name in WEIGHED if LOSSES[name].about["on"] != "coarse"])
def test_further_terms_are_in_the_loss(term):
    trainer = run(**{term: 0.5})
    row = trainer.step(trainer.batch(0))
    assert row[term] > 0 and row["loss"] == pytest.approx(
        sum(v for k, v in row.items() if k not in ("step", "loss", "lr"))
    )


def test_batch_order_covers_all_and_parts_have_one_grid():
    order = batch_order(9, 4, (0, 1))
    assert [len(batch) for batch in order] == [4, 4, 4] and {i for batch in order for i in batch} == set(range(9))
    assert order == batch_order(9, 4, (0, 1)) != batch_order(9, 4, (0, 2))
    grids = [(2, 2), (3, 2), (2, 2), (1, 4)]
    assert by_grid([3, 0, 1, 2], grids) == [[3], [0, 2], [1]]


def test_parts_of_several_grids_make_one_loss():
    """The cross-entropy of a step is Σ w·ce / Σ w over all its pictures, whatever their grids."""
    data = toy(6)
    trainer = run(data=data, batch=6, ema=0)
    trainer.head.trunk.drop.p = 0.0
    expected = weight = 0.0
    for i in range(6):
        part = data.batch([i], (0,))
        counted = (part.labels != 255) & (part.confidence >= trainer.config.threshold)
        logits = torch.nn.functional.interpolate(
            trainer.head(part.features).logits, size=part.labels.shape[-2:], mode="bilinear", align_corners=False
        )
        losses = torch.nn.functional.cross_entropy(logits, part.labels, ignore_index=255, reduction="none")
        expected += float(losses.detach()[counted].sum())
        weight += float(counted.sum())
    row = trainer.step(trainer.batch(0))
    assert row["ce"] == pytest.approx(expected / weight, rel=1e-5)


def test_background_pixels_count_as_much_as_asked():
    """Less weight for the background: the weighted mean of the pixels' losses, and more pixels for the classes."""
    data = toy(6, grids=((4, 5),))
    trainer = run(data=data, batch=6, ema=0, background=0.25)
    trainer.head.trunk.drop.p = 0.0
    part = data.batch(range(6), (0,))
    losses = torch.nn.functional.cross_entropy(
        torch.nn.functional.interpolate(
            trainer.head(part.features).logits, size=part.labels.shape[-2:], mode="bilinear", align_corners=False
        ),
        part.labels, ignore_index=255, reduction="none",
    ).detach()  # fmt: skip
    expected = weight = 0.0
    for place in zip(*(part.labels != 255).nonzero(as_tuple=True), strict=True):
        if part.confidence[place] >= trainer.config.threshold:
            w = 0.25 if part.labels[place] == 0 else 1.0
            expected, weight = expected + w * float(losses[place]), weight + w
    assert trainer.step(trainer.batch(0))["ce"] == pytest.approx(expected / weight, rel=1e-5)

    noisy, fresh = toy(noise=3.0), toy(6, seed=2, noise=3.0, grids=((4, 5),))

    def share(background):
        head = SegmentationHead("decoder", options=SMALL, **QUICK | {"background": background})
        return (head.fit(noisy, classes=CLASSES).predict(torch.stack(fresh.features)) > 0).float().mean()

    assert share(0.1) > share(1.0) + 0.05


def test_joined():
    data = Joined([toy(4), toy(4, seed=1)])
    assert len(data.grids) == 8 and np.array_equal(data.target(5)[0], toy(4, seed=1).target(1)[0])
    batch = data.batch([0, 6], (0,))
    assert torch.equal(batch.features[1], toy(4, seed=1).features[2])


def test_clear_errors():
    features = torch.zeros(2, 2, 8, 3, 4)
    masks = np.zeros((2, 6, 8), np.uint8)

    def fit(labels, **more):
        return SegmentationHead("linear", **QUICK | more).fit(features, labels, classes=CLASSES)

    with pytest.raises(ValueError, match="all are ignored"):
        fit(np.full_like(masks, 255))
    with pytest.raises(ValueError, match="no pixel of cat, dog"):
        fit(masks)
    with pytest.raises(ValueError, match="wrong number of classes: a target holds label 7"):
        fit(np.full_like(masks, 7))
    with pytest.raises(ValueError, match="lower threshold"):
        data = ArrayData(features, masks, np.full(masks.shape, 0.2))
        check_targets(data, 3, CLASSES, threshold=0.5)
    good = np.tile(np.arange(3, dtype=np.uint8), 32).reshape(2, 6, 8)
    features[0, 0, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="background=0"):
        fit(masks, background=0.0)
    with pytest.raises(TrainingFailed, match="nan at step 1"):
        fit(good)
    with pytest.raises(ValueError, match="CUDA"):
        fit(good, precision="float16")
    with pytest.raises(ValueError, match="at least 1"):
        TrainConfig(steps=0)
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        TrainConfig(ema=1.0)
