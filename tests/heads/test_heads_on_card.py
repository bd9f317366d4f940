"""Heads on a pretend card: they learn what they learn on the CPU, and the host waits once in ten steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pretend import pretend_card

from clipseg_ws.heads import HEADS, LOSSES, contrast
from clipseg_ws.heads.base import make_head
from clipseg_ws.heads.consistency import Consistency
from clipseg_ws.heads.data import ArrayData
from clipseg_ws.heads.options import WEIGHED, TrainConfig
from clipseg_ws.heads.rows import TrainingFailed
from clipseg_ws.heads.training import Trainer
from clipseg_ws.heads.workers import Alone

SMALL = {"hidden": 8, "depth": 1, "upsample": 2, "dropout": 0.0}


@pytest.fixture(scope="module")
def card():
    with pretend_card() as card:
        yield card


def data(count=12, labels=3) -> ArrayData:
    """Tokens [2, 8, 4, 5] that tell the label of every patch, and masks twice as fine."""
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(labels, 2, 8))
    patches = [rng.integers(0, labels, (4, 5)) for _ in range(count)]
    tokens = [codes[p] + 0.3 * rng.normal(size=(4, 5, 2, 8)) for p in patches]
    masks = [np.kron(p, np.ones((2, 2), int)).astype(np.uint8) for p in patches]
    return ArrayData([torch.from_numpy(t).permute(2, 3, 0, 1).float() for t in tokens], masks)


def trainer(kind: str, device: str, known=None, **more) -> Trainer:
    given = {"steps": 20, "batch": 4, "lr": 3e-2, "warmup": 3, "ema": 0.5, "threshold": 0.6} | more
    options = {key: value for key, value in SMALL.items() if key in HEADS[kind].parameters}
    head = make_head(kind, 2, 8, 3, seed=0, **options)
    return Trainer(head, known or data(), TrainConfig.of(**given), workers=Alone(device))


@pytest.mark.parametrize("kind", HEADS)
def test_every_head_learns_as_on_the_cpu_and_waits_once_in_ten_steps(card, kind):
    here, there = trainer(kind, "cpu"), trainer(kind, "cuda")
    here.run()
    card.forget()
    learned = there.run()
    assert card.waits.total() <= 2  # of 20 steps
    assert [row["loss"] for row in there.progress.history] == pytest.approx(
        [row["loss"] for row in here.progress.history], rel=1e-4
    )
    tokens = torch.stack(data().features[:4])
    assert torch.equal(learned(tokens.to("cuda")).logits.argmax(1).cpu(), here.result()(tokens).logits.argmax(1))


@pytest.mark.parametrize("loss", [name for name in WEIGHED if LOSSES[name].about["on"] != "coarse"])
def test_every_loss_is_the_cpus(card, loss):
    here, there = (trainer("decoder", device, **{loss: 0.5}) for device in ("cpu", "cuda"))
    here.run()
    card.forget()
    there.run()
    assert card.waits.total() <= 2
    assert [row[loss] for row in there.progress.history] == pytest.approx(
        [row[loss] for row in here.progress.history], rel=1e-3, abs=1e-5
    )


def test_a_failed_training_names_its_step_although_it_is_read_later(card):
    for device in ("cpu", "cuda"):
        failing = trainer("linear", device)
        step = failing.step

        def spoilt(parts, step=step, failing=failing):
            if failing.progress.step == 4:
                with torch.no_grad():
                    next(failing.head.parameters()).fill_(float("nan"))
            return step(parts)

        failing.step = spoilt
        with pytest.raises(TrainingFailed, match="at step 5 "):
            failing.run()


def test_labels_that_a_head_does_not_have_are_refused_before_they_move(card):
    with pytest.raises(ValueError, match="holds label 3, the head answers 3 labels"):
        trainer("linear", "cuda", known=data(labels=4)).run()


def test_the_further_losses_of_a_scheme_wait_for_nothing(card):
    there = trainer("decoder", "cuda")
    there.extra = Consistency()
    card.forget()
    there.run()
    assert card.waits.total() <= 2


def test_regions_of_many_labels_are_listed_and_the_loss_is_the_same(monkeypatch):
    rng = torch.Generator().manual_seed(0)
    embedding, weights = torch.randn(4, 8, 3, 5, generator=rng), torch.rand(4, 3, 5, generator=rng)
    labels = torch.randint(0, 4, (4, 3, 5), generator=rng)
    masked = contrast.region_contrast(embedding, labels, weights, 9)
    monkeypatch.setattr(contrast, "FEW", 8)
    assert len(contrast.region_vectors(embedding, labels, weights, 9)[1]) < 36
    assert float(contrast.region_contrast(embedding, labels, weights, 9)) == pytest.approx(float(masked), rel=1e-5)
