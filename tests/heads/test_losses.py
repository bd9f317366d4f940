"""The losses as the training runs them: one contract over the registry, each against a slow plain version.

The slow versions loop over pixels with math.log and share nothing with the code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from clipseg_ws.heads import LOSSES, WEIGHTINGS
from clipseg_ws.heads.base import HeadOutput
from clipseg_ws.heads.contrast import class_prototypes, prototype_contrast, region_contrast, region_vectors
from clipseg_ws.heads.data import Batch
from clipseg_ws.heads.locality import boundary_loss, locally_adaptive_loss
from clipseg_ws.heads.losses import at_grid, soft_cross_entropy, weighted_cross_entropy
from clipseg_ws.heads.objective import objective
from clipseg_ws.heads.options import WEIGHED, TrainConfig
from clipseg_ws.heads.weights import confidence_weights

B, K, H, W = 2, 4, 5, 7  # label 3 never occurs


@dataclass
class Case:
    """What a head answered, and the masks; all at one size, so that patches are pixels."""

    logits: torch.Tensor
    coarse: torch.Tensor
    embedding: torch.Tensor
    labels: torch.Tensor
    confidence: torch.Tensor

    def loss(self, name, labels=None, **training):
        """One loss as a training step runs it."""
        config = TrainConfig.of(**dict.fromkeys(WEIGHED, 0.0) | ({name: 1.0} if name in WEIGHED else {}) | training)
        batch = Batch(torch.zeros(B, 1, 1, H, W), self.labels if labels is None else labels, self.confidence, (0, 1))
        losses = objective(HeadOutput(self.logits, self.embedding, self.coarse), batch, config)
        assert set(losses) == {"ce", name}
        return losses[name]


@pytest.fixture
def case():
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(B, K, H, W, generator=g, dtype=torch.float64).float().requires_grad_()
    labels = torch.randint(0, K - 1, (B, H, W), generator=g)
    labels[0, 0, :3] = 255
    confidence = torch.rand(B, H, W, generator=g)
    coarse, embedding = (torch.randn(B, n, H, W, generator=g).requires_grad_() for n in (K, 6))
    return Case(logits, coarse, embedding, labels, confidence)


def log_softmax(row):
    top = max(row)
    total = sum(math.exp(v - top) for v in row)
    return [v - top - math.log(total) for v in row]


def pixels():
    return [(b, y, x) for b in range(B) for y in range(H) for x in range(W)]


def unit_rows(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


# ---- slow versions: (case, weights [B, H, W]) -> number --------------------------------------------------------------


def slow_cross_entropy(case, weights, scores=None):
    scores = case.logits if scores is None else scores
    total = 0.0
    for b, y, x in pixels():
        if weights[b, y, x]:
            row = log_softmax(scores[b, :, y, x].tolist())
            total -= float(weights[b, y, x]) * row[int(case.labels[b, y, x])]
    return total / float(weights.sum())


def slow_coarse(case, weights):
    return slow_cross_entropy(case, weights, case.coarse)


def slow_boundary(case, weights):
    p, sums = case.logits.detach().softmax(1), {True: [0.0, 0.0], False: [0.0, 0.0]}
    for b, y, x in pixels():
        for dy, dx in ((0, 1), (1, 0)):
            if y + dy >= H or x + dx >= W:
                continue
            differ = int(case.labels[b, y, x]) != int(case.labels[b, y + dy, x + dx])
            weight = float(weights[b, y, x] * weights[b, y + dy, x + dx])
            alike = sum(float(p[b, k, y, x]) * float(p[b, k, y + dy, x + dx]) for k in range(K))
            sums[differ][0] -= weight * (math.log(1 - alike) if differ else math.log(alike))
            sums[differ][1] += weight
    return sum(0.5 * total / count for total, count in sums.values())


def slow_local(case, weights, window=3):
    p, r = case.logits.detach().softmax(1), window // 2
    total = 0.0
    for b, y, x in pixels():
        if not weights[b, y, x]:
            continue
        c = int(case.labels[b, y, x])
        alike = [
            float(p[b, c, v, u])
            for v in range(max(0, y - r), min(H, y + r + 1))
            for u in range(max(0, x - r), min(W, x + r + 1))
            if int(case.labels[b, v, u]) == c and weights[b, v, u]
        ]
        total -= float(weights[b, y, x]) * math.log(sum(alike) / len(alike))
    return total / float(weights.sum())


def regions_of(case, weights):
    """(label, vector) of every label in every picture that has it."""
    e, w, found = case.embedding.detach().numpy().astype(np.float64), weights.numpy(), []
    for b in range(B):
        for c in range(K):
            own = [(e[b, :, y, x], w[b, y, x]) for y in range(H) for x in range(W) if case.labels[b, y, x] == c]
            if sum(v for _, v in own) > 0:
                found.append((c, sum(vec * v for vec, v in own) / sum(v for _, v in own)))
    return found


def slow_region(case, weights):
    regions = regions_of(case, weights)
    unit, losses = [unit_rows(v) for _, v in regions], []
    for i, (c, _) in enumerate(regions):
        others = [j for j in range(len(regions)) if j != i]
        positives = [j for j in others if regions[j][0] == c]
        total = sum(math.exp(unit[i] @ unit[j] / 0.2) for j in others)
        if positives:
            logs = [math.log(math.exp(unit[i] @ unit[j] / 0.2) / total) for j in positives]
            losses.append(-sum(logs) / len(logs))
    return sum(losses) / len(losses)


def prototypes_of(case, weights, top):
    """Unit vector of every label that occurs."""
    e, prototypes = case.embedding.detach().numpy().astype(np.float64), {}
    for c in range(K):
        own = [(float(weights[p]), unit_rows(e[p[0], :, p[1], p[2]])) for p in pixels() if case.labels[p] == c]
        best = sorted(own, key=lambda pair: -pair[0])[:top]
        if best:
            prototypes[c] = unit_rows(sum(w * v for w, v in best))
    return prototypes


def slow_prototype(case, weights, top=32):
    e, prototypes = case.embedding.detach().numpy().astype(np.float64), prototypes_of(case, weights, top)
    total = mass = 0.0
    for p in pixels():
        c, w = int(case.labels[p]), float(weights[p])
        if c != 255:
            v = unit_rows(e[p[0], :, p[1], p[2]])
            sums = {k: math.exp(v @ q / 0.1) for k, q in prototypes.items()}
            total -= w * math.log(sums[c] / sum(sums.values()))
            mass += w
    return total / mass


SLOW = {
    "ce": slow_cross_entropy, "coarse": slow_coarse, "region": slow_region, "prototype": slow_prototype,
    "boundary": slow_boundary, "local": slow_local,
}  # fmt: skip
SLOW_WEIGHTS = {"hard": lambda sure: float(sure >= 0.6), "soft": lambda sure: sure**2, "none": lambda sure: 1.0}


# ---- the contract ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOSSES)
class TestLoss:
    """The contract of every loss of the registry: a new line in it is tested here without further edits."""

    def test_finite_with_a_gradient(self, name, case):
        loss = case.loss(name, weighting="soft")
        assert loss.ndim == 0 and torch.isfinite(loss) and float(loss.detach()) > 0
        loss.backward()
        grads = [t.grad for t in (case.logits, case.coarse, case.embedding) if t.grad is not None]
        assert grads and all(torch.isfinite(g).all() for g in grads) and any(g.abs().sum() > 0 for g in grads)

    def test_255_is_ignored(self, name, case):
        before = case.loss(name, weighting="soft").detach()
        for value in (case.logits, case.coarse, case.embedding):
            with torch.no_grad():
                value[0, 1, 0, :3] += 100
        assert torch.equal(case.loss(name, weighting="soft").detach(), before)
        assert float(case.loss(name, torch.full_like(case.labels, 255)).detach()) == 0

    def test_its_weight(self, name, case):
        if name not in WEIGHED:
            assert LOSSES[name].parameters == {} and TrainConfig().weight(name) == 1
            return
        assert TrainConfig().weight(name) == LOSSES[name].parameters["weight"]
        half, whole = (float(case.loss(name, **{name: weight}).detach()) for weight in (0.5, 1.0))
        assert half == pytest.approx(0.5 * whole, rel=1e-6)

    @pytest.mark.parametrize("mode", WEIGHTINGS)
    def test_equals_the_slow_version(self, name, mode, case):
        if name not in SLOW or mode not in SLOW_WEIGHTS:
            pytest.skip("no slow version")
        weights = torch.zeros(B, H, W)
        for place in pixels():
            if case.labels[place] != 255:
                weights[place] = SLOW_WEIGHTS[mode](float(case.confidence[place]))
        got = case.loss(name, weighting=mode, threshold=0.6)
        assert float(got.detach()) == pytest.approx(SLOW[name](case, weights), rel=1e-4)


@pytest.mark.parametrize("mode", WEIGHTINGS)
def test_weightings(mode, case):
    weights = confidence_weights(case.labels, case.confidence, mode=mode)
    assert weights.dtype == torch.float32 and weights.shape == case.labels.shape
    assert weights.min() >= 0 and weights.max() <= 1 and (weights[case.labels == 255] == 0).all()


def test_confidence_guided_cross_entropy_has_no_gradient_at_ignored_pixels(case):
    case.loss("ce", weighting="hard", threshold=0.6).backward()
    assert (case.logits.grad[0, :, 0, :3] == 0).all() and case.logits.grad.abs().sum() > 0
    unsure = (case.confidence < 0.6)[:, None].expand_as(case.logits)
    assert (case.logits.grad[unsure] == 0).all()


# ---- single functions ------------------------------------------------------------------------------------------------


def test_normaliser_adds_up_over_processes(case):
    logits, labels = case.logits.detach(), case.labels
    weights = confidence_weights(labels, case.confidence, mode="soft")
    whole = weighted_cross_entropy(logits, labels, weights)
    mean = weights.sum() / 2  # of two processes
    parts = [
        weighted_cross_entropy(logits[b : b + 1], labels[b : b + 1], weights[b : b + 1], normaliser=mean)
        for b in range(2)
    ]
    assert float(sum(parts) / 2) == pytest.approx(float(whole), rel=1e-5)


def test_soft_cross_entropy(case):
    target = torch.rand(B, K, H, W).softmax(1)
    slow = weight_sum = 0.0
    for b, y, x in pixels():
        log = log_softmax(case.logits[b, :, y, x].tolist())
        w = float(case.confidence[b, y, x])
        slow -= w * sum(float(target[b, k, y, x]) * log[k] for k in range(K))
        weight_sum += w
    got = soft_cross_entropy(case.logits.detach(), target, case.confidence)
    assert float(got) == pytest.approx(slow / weight_sum, rel=1e-5)


def test_boundary_loss_without_a_boundary(case):
    flat = torch.zeros_like(case.labels)
    assert torch.isfinite(boundary_loss(case.logits, flat, torch.ones(B, H, W)))


@pytest.mark.parametrize("window", [1, 3, 5])
def test_locally_adaptive_loss(case, window):
    logits = case.logits.detach()
    weights = confidence_weights(case.labels, case.confidence, mode="hard", threshold=0.3)
    got = float(locally_adaptive_loss(logits, case.labels, weights, window=window))
    assert got == pytest.approx(slow_local(case, weights, window), rel=1e-5)
    if window == 1:
        plain = weighted_cross_entropy(logits, case.labels, weights)
        assert got == pytest.approx(float(plain), rel=1e-5)


def test_regions(case):
    weights = confidence_weights(case.labels, case.confidence, mode="soft")
    embedding = case.embedding.detach()
    _, labels, there = region_vectors(embedding, case.labels, weights, K)
    found = labels[there]
    assert sorted(found.tolist()) == sorted(c for c, _ in regions_of(case, weights)) and 3 not in found
    assert float(region_contrast(embedding[:1], case.labels[:1], weights[:1], K)) == 0  # no pair


def test_prototypes(case):
    weights = confidence_weights(case.labels, case.confidence, mode="soft")
    embedding = case.embedding.detach()
    got, there = class_prototypes(embedding, case.labels, weights, K, top=5)
    assert there.tolist() == [True, True, True, False]
    for c, vector in prototypes_of(case, weights, 5).items():
        assert np.allclose(got[c].numpy(), vector, atol=1e-5)
    few = float(prototype_contrast(embedding, case.labels, weights, K, top=5))
    assert few == pytest.approx(slow_prototype(case, weights, 5), rel=1e-4)
    assert float(prototype_contrast(embedding, torch.zeros_like(case.labels), weights, K)) == 0


def test_at_grid_takes_the_patch_centre():
    labels = torch.arange(36).reshape(1, 6, 6)
    assert at_grid(labels, (2, 2)).tolist() == [[[7, 10], [25, 28]]]


def test_errors(case):
    labels, confidence = case.labels, case.confidence
    with pytest.raises(ValueError, match="hard, soft, none"):
        confidence_weights(labels, confidence, mode="maybe")
    with pytest.raises(ValueError, match="has no parameter 'power'; its parameters: threshold"):
        confidence_weights(labels, confidence, power=3.0)
    with pytest.raises(ValueError, match=r"both are \[B, H, W\]"):
        confidence_weights(labels, confidence[:1])
    with pytest.raises(ValueError, match="wrong number of classes"):
        case.loss("ce", labels.masked_fill(labels == 2, 9))
    weights = torch.ones(B, H, W)
    with pytest.raises(ValueError, match=r"\[B, 1\+C, H, W\]"):
        weighted_cross_entropy(case.logits[:, :, :3], labels, weights)
    with pytest.raises(ValueError, match="odd"):
        locally_adaptive_loss(case.logits, labels, weights, window=2)
