"""The training schemes as functions, against plain versions and on made-up data."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from helpers_heads import CLASSES, course, toy

from clipseg_ws.backbones.blocks import block_attentions
from clipseg_ws.heads import SCHEMES
from clipseg_ws.heads.base import HeadOutput, make_head
from clipseg_ws.heads.consistency import Consistency, mask_tokens, uncertain_patches
from clipseg_ws.heads.cotrain import agreement, cotrain
from clipseg_ws.heads.course import run_scheme
from clipseg_ws.heads.data import Batch
from clipseg_ws.heads.estimator import SegmentationHead
from clipseg_ws.heads.features import FeatureSpec
from clipseg_ws.heads.feedback import feed_back, head_affinity, keep_similar
from clipseg_ws.heads.file import HeadCard
from clipseg_ws.heads.incremental import Distillation, add_classes, extend_head, mixed_target, tag_loss
from clipseg_ws.heads.rounds import fit_rounds, merge_labels, relabel
from clipseg_ws.registry import Spec

QUICK = {"steps": 30, "batch": 4, "lr": 3e-2, "warmup": 3, "ema": 0.5, "weighting": "none"}
SMALL = {"hidden": 8, "upsample": 2, "depth": 1, "dropout": 0.0}


def everything(tmp_path, **more):
    """A course with all that any scheme reads, one step a training."""
    data = toy(4)
    old = make_head("linear", 2, 8, 2)
    card = HeadCard(("horse",), "toy", "0" * 64, FeatureSpec(blocks=(0, 1)), "linear", 8)
    return course(
        "linear", data, QUICK | {"steps": 1}, unlabelled=toy(4, seed=4), old=(old, card), folder=tmp_path,
        feed_back=lambda module, blocks: data.targets, fit={"validation": toy(2, seed=1), "about": {"made": "by hand"}},
        **more,
    )  # fmt: skip


@pytest.mark.parametrize("name", SCHEMES)
class TestScheme:
    """The contract of every scheme of the registry: a new line in it is tested here without further edits."""

    def test_entry(self, name):
        taken = list(inspect.signature(SCHEMES[name].load()).parameters.values())
        assert {p.name: p.default for p in taken[1:]} == SCHEMES[name].parameters and SCHEMES[name].summary

    def test_one_step(self, name, tmp_path):
        head = run_scheme(everything(tmp_path), Spec(name))
        assert head.n_iter_ == 1 and head.classes_[-2:] == CLASSES
        assert np.isfinite(head.history_[-1]["loss"])
        logits = head.module_(torch.stack([toy(4).features[0]])).logits
        assert logits.shape[1] == len(head.classes_) + 1 and torch.isfinite(logits).all()
        assert list(tmp_path.glob("**/checkpoint.pt"))

    def test_what_it_reads_must_be_there(self, name):
        if (reads := SCHEMES[name].about.get("reads")) is not None:
            bare = course("linear", toy(4), QUICK | {"steps": 1})
            with pytest.raises(ValueError, match=f"scheme '{name}' needs"):
                run_scheme(bare, Spec(name))
            assert getattr(bare, reads) is None


def test_scheme_errors():
    with pytest.raises(ValueError, match="did you mean 'rounds'"):
        run_scheme(course("linear", toy(4), QUICK), Spec("round"))
    with pytest.raises(ValueError, match="its parameters: rounds, sure"):
        run_scheme(course("linear", toy(4), QUICK), Spec("rounds", (("threshold", 0.5),)))


def make_batch(confidence):
    features = torch.randn(2, 2, 8, 3, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(2, 6, 8, dtype=torch.int64)
    return Batch(features, labels, confidence, (0, 1))


def test_only_uncertain_tokens_are_masked():
    confidence = torch.tensor([[0.1, 0.3, 0.5], [0.9, 0.89, 1.0]])
    assert uncertain_patches(confidence, 0.3, 0.9).tolist() == [[False, True, True], [False, True, False]]
    features = torch.randn(2, 2, 8, 3, 4)
    chosen = torch.zeros(2, 3, 4, dtype=torch.bool)
    chosen[1, 2, 3] = True
    masked = mask_tokens(features, chosen)
    assert torch.equal(masked[0], features[0])
    assert torch.allclose(masked[1, :, :, 2, 3], features[1].flatten(2).mean(-1), atol=1e-6)
    changed = (masked != features).any(1).any(1)
    assert torch.equal(changed, chosen)


def test_consistency_is_zero_gradient_free_where_nothing_is_chosen_and_falls_with_agreement():
    head = make_head("mlp", 2, 8, 3, **SMALL).eval()
    scheme, generator = Consistency(share=1.0, weight=1.0), torch.Generator().manual_seed(0)
    low = make_batch(torch.full((2, 6, 8), 0.1))
    losses = scheme(head, low, head(low.features), generator)
    assert float(losses["recover"]) == 0 and float(losses["agree"]) == 0
    sure = make_batch(torch.full((2, 6, 8), 1.0))
    output = head(sure.features)
    agree = scheme(head, sure, output, generator)["agree"]
    entropy = -(output.logits.softmax(1) * output.logits.log_softmax(1)).sum(1).mean()
    assert float(agree) == pytest.approx(float(entropy), rel=1e-5)  # both views are the same there
    other = HeadOutput(output.logits.flip(1) * 5, output.embedding)
    assert float(scheme(head, sure, other, generator)["agree"]) > float(agree)
    with pytest.raises(ValueError, match="low < high"):
        Consistency(low=0.9, high=0.3)


def test_relabelling_keeps_to_the_pictures_own_classes():
    data = toy(6)
    head = SegmentationHead("linear", **QUICK).fit(data, classes=CLASSES)
    for mask in data.targets.labels:
        mask[mask == 2] = 0  # class 2 is in no mask any more
    targets = relabel(head.module_, data, threshold=0.01)
    assert all(2 not in mask for mask in targets.labels) and any((mask == 1).any() for mask in targets.labels)
    kept = relabel(head.module_, data, threshold=1.0)
    same = [np.array_equal(a, b) for a, b in zip(kept.labels, data.targets.labels, strict=True)]
    assert all(same)
    labels, confidence = np.array([[1, 0]], np.uint8), np.array([[10, 20]], np.uint8)
    merged = merge_labels(labels, confidence, np.array([[2, 2]]), np.array([[0.9, 0.5]]), 0.8)
    assert merged[0].tolist() == [[2, 0]] and merged[1].tolist() == [[230, 20]]


def test_rounds_mend_noisy_masks():
    clean, noisy = toy(12, noise=0.2), toy(12, noise=0.2)
    rng = np.random.default_rng(0)
    for mask in noisy.targets.labels:
        wrong = rng.random(mask.shape) < 0.3
        mask[wrong & (mask != 255)] = 0
    head = fit_rounds(course("linear", noisy, QUICK), rounds=2, sure=0.6)
    mended = relabel(head.module_, noisy, threshold=0.6)
    before = np.mean([(a == b).mean() for a, b in zip(noisy.targets.labels, clean.targets.labels, strict=True)])
    after = np.mean([(a == b).mean() for a, b in zip(mended.labels, clean.targets.labels, strict=True)])
    assert after > before + 0.05


def test_library_and_scheme_have_the_same_defaults():
    """What a caller leaves out is what `--scheme NAME` leaves out."""
    own = inspect.signature(cotrain).parameters
    for key, value in SCHEMES["cotrain"].parameters.items():
        assert own[key].default == value
    for entry in SCHEMES.values():
        known = inspect.signature(entry.load()).parameters
        assert {key: known[key].default for key in entry.parameters} == dict(entry.parameters)


def test_agreement_and_cotraining():
    one = torch.tensor([[0.8, 0.1], [0.1, 0.6], [0.1, 0.3]]).reshape(1, 3, 1, 2)
    two = torch.tensor([[0.6, 0.7], [0.3, 0.2], [0.1, 0.1]]).reshape(1, 3, 1, 2)
    labels, best = agreement([one, two], 0.5)
    assert labels.tolist() == [[[0, 255]]] and best[0, 0, 0] == pytest.approx(0.7)
    assert agreement([one, two], 0.75)[0].tolist() == [[[255, 255]]]
    heads = [SegmentationHead("linear", **QUICK), SegmentationHead("mlp", options=SMALL, **QUICK)]
    free = toy(8, seed=4)
    for mask in free.targets.labels:
        mask[:] = 9  # would be an error if it were read
    lessons = course("linear", toy(6), QUICK, unlabelled=free, fit={"check": False})
    trained = cotrain(heads, lessons, rounds=2, sure=0.6)
    assert trained == heads and all(head.score(toy(6, seed=2)) > 0.7 for head in trained)
    with pytest.raises(ValueError, match="at least 2 heads"):
        cotrain(heads[:1], lessons)


def test_mixed_target_by_loops():
    old = torch.rand(2, 3, 2, 2).softmax(1)
    labels = torch.tensor([[[0, 3], [1, 255]], [[3, 3], [2, 0]]])
    confidence = torch.tensor([[[1.0, 0.9], [1.0, 1.0]], [[0.2, 0.6], [1.0, 1.0]]])
    target = mixed_target(old, labels, confidence, 4, 0.5)
    for b in range(2):
        for y in range(2):
            for x in range(2):
                new = int(labels[b, y, x]) == 3 and float(confidence[b, y, x]) >= 0.5
                expected = [0.0, 0.0, 0.0, 1.0] if new else [*old[b, :, y, x].tolist(), 0.0]
                assert target[b, :, y, x].tolist() == pytest.approx(expected)


def test_tag_loss_prefers_the_true_tags():
    logits = torch.zeros(1, 3, 4, 4)
    logits[0, 2, :2, :2] = 6.0
    there, absent = torch.tensor([[1.0]]), torch.tensor([[0.0]])
    assert tag_loss(logits, there, 2) < tag_loss(logits, absent, 2)


def test_added_class_is_learned_and_the_old_ones_stay():
    first = SegmentationHead("decoder", options=SMALL, **QUICK)
    data = toy(12, noise=0.2)
    only_old = toy(12, noise=0.2)
    for mask in only_old.targets.labels:
        mask[mask == 2] = 0  # the later class is background so far
    first.fit(only_old, classes=["cat"])
    card = HeadCard(("cat",), "toy", "0" * 64, FeatureSpec(blocks=(0, 1)), "decoder", 8, SMALL)
    for mask in data.targets.labels:
        mask[mask == 1] = 0  # no mask of the old class is read
    training = QUICK | {"weighting": "hard", "steps": 60}
    head = add_classes(first.module_, card, data, classes=["dog"], threshold=0.0, training=training)
    assert head.classes_ == ("cat", "dog") and head.score(toy(6, seed=2, noise=0.2)) > 0.75
    with pytest.raises(ValueError, match="among the old"):
        add_classes(first.module_, card, data, classes=["cat"])
    grown = extend_head(first.module_, card, 1)
    features = data.features[0][None]
    assert torch.allclose(grown.eval()(features).logits[:, :2], first.module_(features).logits, atol=1e-5)
    batch = data.batch([0, 2], (0,))
    losses = Distillation(first.module_)(grown, batch, grown(batch.features), torch.Generator())
    assert all(torch.isfinite(v) for v in losses.values())


def test_feedback_by_loops():
    generator = torch.Generator().manual_seed(0)  # sharp rows: flat ones all lie below the affinity and differ equally
    attentions = (6 * torch.randn(2, 3, 6, 6, generator=generator)).softmax(-1)
    embedding = torch.randn(2, 5, 2, 3, generator=generator)
    affinity = head_affinity(embedding)
    got = feed_back(attentions, embedding)
    for b in range(2):
        flat = embedding[b].reshape(5, 6)
        dots = flat.t() @ flat
        own = torch.tensor([[1 / (1 + float(torch.exp(-dots[i, j]))) for j in range(6)] for i in range(6)])
        assert torch.allclose(affinity[b], own, atol=1e-5)
        differences = [float((attentions[b, m] - own).abs().sum()) for m in range(3)]
        kept = [m for m in range(3) if differences[m] <= sum(differences) / 3]
        assert keep_similar(attentions, affinity)[b].nonzero().flatten().tolist() == kept
        mean = sum(attentions[b, m] for m in kept) / len(kept)
        assert torch.allclose(got[b], mean * own, atol=1e-5)
    with pytest.raises(ValueError, match=r"\[B, M, N, N\]"):
        feed_back(attentions[:, :, :4], embedding)


def test_block_attentions_average_to_the_backbones_mean(tiny_backbone):
    pixels = torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    single = block_attentions(tiny_backbone, pixels, 3)
    assert single.shape == (2, 3, 6, 6)
    assert torch.allclose(single.mean(1), tiny_backbone.encode(pixels, attention_blocks=3).attention, atol=1e-5)
    assert torch.allclose(single[:, -1], tiny_backbone.encode(pixels, attention_blocks=1).attention, atol=1e-5)
    with pytest.raises(ValueError, match="at least 1"):
        block_attentions(tiny_backbone, pixels, 0)
