"""The matcher's parts against the same numbers written out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from clipseg_ws import Support
from clipseg_ws.activations.gradcam import min_max
from clipseg_ws.activations.ridge import fit_ridge, ridge_answers
from clipseg_ws.fewshot import labels as labels_module
from clipseg_ws.fewshot import matcher as matcher_module
from clipseg_ws.fewshot.bank import BankEntry, BankError, SupportBank, load_bank
from clipseg_ws.fewshot.labels import rivals
from clipseg_ws.fewshot.matcher import FewShotMatcher
from clipseg_ws.fewshot.options import FewShotConfig
from clipseg_ws.fewshot.prepared import prepare
from clipseg_ws.output.segmentation import Segmentation
from clipseg_ws.registry import Spec
from clipseg_ws.stages.banks import predict_masks
from clipseg_ws.structures import TextEmbeddings, Vocabulary

PLAIN = FewShotConfig(prior=0.0, refit="none")
LABELS = ("cat", "cat", "dog", "cow")


@pytest.fixture
def bank() -> SupportBank:
    g = torch.Generator().manual_seed(3)
    entries = []
    for i, label in enumerate(LABELS):
        share = torch.rand(3, 4, generator=g)
        features = {"input": torch.randn(6, 3, 4, generator=g) + i, "values": torch.randn(5, 3, 4, generator=g)}
        entries.append(BankEntry(label, f"{i}.jpg", features, share, 1 - share))
    return SupportBank(tuple(entries), ("input", "values"), "m", "bicubic", "0" * 64)


@pytest.fixture
def query() -> dict[str, torch.Tensor]:
    return {"input": torch.randn(2, 6, 3, 5, generator=torch.Generator().manual_seed(4)) + 1}


def units(features: torch.Tensor) -> torch.Tensor:
    """[D, h, w] -> [N, D] unit vectors."""
    return F.normalize(features.float().flatten(1).t(), dim=-1)


def pooled(entry: BankEntry, side: str) -> torch.Tensor:
    weights = getattr(entry, side).flatten()
    return F.normalize((units(entry.features["input"]) * weights[:, None]).sum(0) / weights.sum(), dim=-1)


def ground(bank: SupportBank) -> torch.Tensor:
    means = [torch.stack([pooled(e, "background") for e in bank.entries if e.label == k]).mean(0) for k in bank.labels]
    return F.normalize(torch.stack(means).mean(0), dim=-1)


def test_supports_count_by_how_well_they_are_found_again(bank, query):
    found = FewShotMatcher(bank, replace(PLAIN, steps=(Spec("alignment", ()),)))(query)
    assert found.alignment.std() > 0.01
    for b in range(2):
        rows = [ground(bank)]
        for label in bank.labels:
            mine = [i for i, e in enumerate(bank.entries) if e.label == label]
            iou = found.alignment[b, mine]
            weights = iou / iou.max() if iou.max() > 0 else torch.ones(len(mine))
            vectors = torch.stack([pooled(bank.entries[i], "foreground") for i in mine])
            rows.append(F.normalize((vectors * weights[:, None]).sum(0) / weights.sum(), dim=-1))
        want = (20 * torch.stack(rows) @ units(query["input"][b]).t()).softmax(0).view(4, 3, 5)
        assert torch.allclose(found.probabilities[b], want, atol=1e-4)


def test_the_prior_is_a_share_of_the_nearest_cell(bank, query):
    plain = FewShotMatcher(bank, PLAIN)
    matcher = FewShotMatcher(bank, replace(PLAIN, prior=0.3))
    cells = units(query["input"][0])
    near = torch.stack([(cells @ F.normalize(own, dim=-1).t()).amax(1) for own in matcher.bank.near])
    means = plain(query).probabilities[0].flatten(1).log() / 20
    logits = 20 * (0.7 * (means - means.mean(0)) + 0.3 * near)  # what all share does not matter to a softmax
    want = logits.softmax(0).view(4, 3, 5)
    assert torch.allclose(matcher(query).probabilities[0], want, atol=1e-4)


def test_rivals_take_their_seeds_from_a_refit(bank, query, monkeypatch):
    seen = []
    real = matcher_module.find_seeds
    monkeypatch.setattr(matcher_module, "find_seeds", lambda maps, **k: (seen.append(maps), real(maps, **k))[1])
    matcher = FewShotMatcher(bank, replace(PLAIN, refit="prototypes(rounds=1)"))
    taken = torch.rand(2, 3, 3, 5)
    matcher(query, taken)
    matcher(query)
    margins = FewShotMatcher(bank, PLAIN)._margins(matcher._similarity(query_units(query), *matcher._prototypes(None)))
    plain = min_max(margins.flatten(2)).view_as(margins)
    assert torch.allclose(seen[0], plain * (1 - taken), atol=1e-5) and torch.allclose(seen[1], plain, atol=1e-5)


def query_units(query):
    return F.normalize(query["input"].float(), dim=1)


def test_presence_is_of_the_classes_asked_for(bank):
    query = {"input": bank.entries[2].features["input"][None] + bank.entries[3].features["input"][None]}
    whole = FewShotMatcher(bank, PLAIN)(query)
    assert len({round(float(v), 4) for v in whole.presence[0]}) == 3
    for asked in (["dog"], ["cow", "cat"]):
        found = FewShotMatcher(bank.focus(asked), PLAIN)(query)
        assert torch.equal(found.presence, whole.presence[:, [bank.labels.index(label) for label in asked]])


def test_the_classifiers_answers_are_shifted_and_stretched(bank, query, monkeypatch):
    answers = torch.rand(2, 3, 3, 5)
    monkeypatch.setattr(matcher_module, "classify_online", lambda *_, **__: answers)
    matcher = FewShotMatcher(bank, replace(PLAIN, refit="classifier(margin=0.2, sharpness=3.0)"))
    got = matcher._refit(query_units(query), torch.rand(2, 3, 3, 5))
    assert not got[:, 0].any() and torch.allclose(got[:, 1:], 3 * (answers - 0.2))


def test_everything_else_is_the_rest_of_a_class(bank):
    prepared = prepare(bank, ("input",))
    for k, label in enumerate(bank.labels):
        total, weight = torch.zeros(6), 0.0
        for entry in bank.entries:
            share = entry.background + (entry.foreground if entry.label != label else 0)
            total += (units(entry.features["input"]) * share.flatten()[:, None]).sum(0)
            weight += float(share.sum())
        assert torch.allclose(prepared.moments.outside[k], total / weight, atol=1e-5)


def test_what_a_class_looks_like_is_weighed_by_its_cells(bank, monkeypatch):
    seen = []
    real = labels_module.own_words
    monkeypatch.setattr(labels_module, "own_words", lambda profiles: (seen.append(profiles), real(profiles))[1])
    vectors = F.normalize(torch.randn(4, 5, generator=torch.Generator().manual_seed(5)), dim=-1)
    known = TextEmbeddings(vectors, torch.arange(4), Vocabulary(tuple("abcd"), tuple((c,) for c in "abcd"), ()))
    rivals(torch.randn(1, 5, 2, 2), bank, known, 10.0)
    for k, label in enumerate(bank.labels):
        total, weight = torch.zeros(4), 0.0
        for entry in (e for e in bank.entries if e.label == label):
            for cell, share in zip(units(entry.features["values"]), entry.foreground.flatten(), strict=True):
                total += share * (10 * vectors @ cell).softmax(0)
                weight += float(share)
        assert torch.allclose(seen[0][k], total / weight, atol=1e-5)


def test_banks_of_other_positions_are_not_joined(bank):
    with pytest.raises(BankError, match="different position_interpolation"):
        bank.merge(replace(bank, position_interpolation="bilinear"))
    assert len(bank.merge(bank).entries) == len(bank.entries)


@pytest.mark.parametrize("given", [
    [("a.jpg", "a.png")], [("a.jpg", "a.png", "cat"), ["b.jpg", "b.png"]], [Support("a.jpg", "a.png", "cat")],
])  # fmt: skip
def test_supports_with_masks_are_neither_read_nor_answered(given):
    def answer(pictures, labels):
        raise AssertionError("nothing is to be found here")

    assert predict_masks(given, answer) == (given, {})


def test_supports_in_which_nothing_is_found_are_left_out():
    def segment(pictures, labels):
        found = [np.full((4, 4), int(picture.getpixel((0, 0))[0] > 0), np.uint8) for picture in pictures]
        sure = np.ones((4, 4), np.float32)
        return [Segmentation(mask, (label,), {}, sure) for mask, label in zip(found, labels, strict=True)]

    dark, light = (np.full((4, 4, 3), value, np.uint8) for value in (0, 200))
    given = [Support(dark, None, "cat"), Support(light, None, "cat"), Support(light, np.ones((4, 4), np.uint8), "dog")]
    ready, confidence = predict_masks(given, segment)
    assert [support.label for support in ready] == ["cat", "dog"] and set(confidence) == {0}
    with pytest.raises(ValueError, match="nothing of 'cat' was found"):
        predict_masks([given[0], given[2]], segment)


def test_what_a_bank_is_asked_for_is_saved_with_it(bank, tmp_path):
    for asked in ((), ("dog",), ("cow", "cat")):
        kept = load_bank((bank.focus(asked) if asked else bank).save(tmp_path / "b.safetensors"))
        assert kept.asked == asked and kept.labels == bank.labels


def test_the_classifier_on_supports_is_weaker_bound_by_more_of_them(bank, query):
    matcher = FewShotMatcher(bank, replace(PLAIN, refit="supports(ridge=6.0, margin=0.2, sharpness=3.0, shots=1)"))
    ridge = fit_ridge(matcher.bank.moments, torch.tensor([3.0, 6.0, 6.0]))  # two cats, a dog, a cow
    answers = 3 * (ridge_answers(query_units(query), ridge) - 0.2)
    want = torch.cat([torch.zeros_like(answers[:, :1]), answers], 1).softmax(1)
    assert torch.allclose(matcher(query).probabilities, want, atol=1e-5)


def test_too_few_supports_are_matched_by_their_prototypes(bank, query):
    """Two cats have a classifier; the dog and the cow of one example keep the softmax's odds of their prototypes."""
    every = FewShotMatcher(bank, replace(PLAIN, refit="supports(shots=1)"))(query).probabilities.log()
    some = FewShotMatcher(bank, replace(PLAIN, refit="supports"))(query).probabilities.log()
    plain = FewShotMatcher(bank, PLAIN)(query).probabilities.log()
    odds = [p[:, 1:] - p[:, :1] for p in (every, some, plain)]
    assert torch.allclose(odds[1][:, 0], odds[0][:, 0], atol=1e-4)
    assert torch.allclose(odds[1][:, 1:], odds[2][:, 1:], atol=1e-4)
