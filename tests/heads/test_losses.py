"""Every loss against a slow plain version: loops over pixels, math.log, nothing shared with the code."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from clipseg_ws.heads.contrast import class_prototypes, prototype_contrast, region_contrast, region_vectors
from clipseg_ws.heads.locality import boundary_loss, locally_adaptive_loss
from clipseg_ws.heads.losses import (
    at_grid,
    confidence_guided_cross_entropy,
    confidence_weights,
    soft_cross_entropy,
    weighted_cross_entropy,
)

B, K, H, W = 2, 4, 5, 7  # label 3 never occurs


@pytest.fixture
def case():
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(B, K, H, W, generator=g, dtype=torch.float64).float().requires_grad_()
    labels = torch.randint(0, K - 1, (B, H, W), generator=g)
    labels[0, 0, :3] = 255
    confidence = torch.rand(B, H, W, generator=g)
    return logits, labels, confidence


def log_softmax(row):
    top = max(row)
    total = sum(math.exp(v - top) for v in row)
    return [v - top - math.log(total) for v in row]


def pixels():
    return [(b, y, x) for b in range(B) for y in range(H) for x in range(W)]


@pytest.mark.parametrize("mode", ["hard", "soft", "none"])
def test_confidence_guided_cross_entropy(case, mode):
    logits, labels, confidence = case
    total = weight_sum = 0.0
    for b, y, x in pixels():
        label, sure = int(labels[b, y, x]), float(confidence[b, y, x])
        if label == 255:
            continue
        weight = {"hard": float(sure >= 0.6), "soft": sure**2, "none": 1.0}[mode]
        total -= weight * log_softmax(logits[b, :, y, x].tolist())[label]
        weight_sum += weight
    got = confidence_guided_cross_entropy(logits, labels, confidence, threshold=0.6, mode=mode)
    assert float(got) == pytest.approx(total / weight_sum, rel=1e-5)
    got.backward()
    assert logits.grad is not None and (logits.grad[0, :, 0, :3] == 0).all() and logits.grad.abs().sum() > 0


def test_ignored_pixels_change_nothing_and_all_ignored_is_zero(case):
    logits, labels, confidence = case
    changed = logits.detach().clone()
    changed[0, :, 0, :3] += 100
    before = confidence_guided_cross_entropy(logits, labels, confidence, threshold=0.5)
    assert torch.equal(before, confidence_guided_cross_entropy(changed, labels, confidence, threshold=0.5))
    nothing = confidence_guided_cross_entropy(logits, torch.full_like(labels, 255), confidence)
    assert float(nothing) == 0


def test_normaliser_adds_up_over_processes(case):
    logits, labels, confidence = case
    weights = confidence_weights(labels, confidence, mode="soft")
    whole = weighted_cross_entropy(logits, labels, weights)
    mean = weights.sum() / 2  # of two processes
    parts = [
        weighted_cross_entropy(logits[b : b + 1], labels[b : b + 1], weights[b : b + 1], normaliser=mean)
        for b in range(2)
    ]
    assert float(sum(parts) / 2) == pytest.approx(float(whole), rel=1e-5)


def test_soft_cross_entropy(case):
    logits, _, confidence = case
    target = torch.rand(B, K, H, W).softmax(1)
    slow = weight_sum = 0.0
    for b, y, x in pixels():
        log = log_softmax(logits[b, :, y, x].tolist())
        w = float(confidence[b, y, x])
        slow -= w * sum(float(target[b, k, y, x]) * log[k] for k in range(K))
        weight_sum += w
    assert float(soft_cross_entropy(logits, target, confidence)) == pytest.approx(slow / weight_sum, rel=1e-5)


def test_boundary_loss(case):
    logits, labels, _ = case
    weights = (labels != 255).float()
    p = logits.detach().softmax(1)
    sums = {True: [0.0, 0.0], False: [0.0, 0.0]}
    for b, y, x in pixels():
        for dy, dx in ((0, 1), (1, 0)):
            if y + dy >= H or x + dx >= W:
                continue
            i, j = int(labels[b, y, x]), int(labels[b, y + dy, x + dx])
            if 255 in (i, j):
                continue
            alike = sum(float(p[b, k, y, x]) * float(p[b, k, y + dy, x + dx]) for k in range(K))
            sums[i != j][0] -= math.log(1 - alike) if i != j else math.log(alike)
            sums[i != j][1] += 1
    slow = sum(0.5 * total / count for total, count in sums.values())
    assert float(boundary_loss(logits, labels, weights)) == pytest.approx(slow, rel=1e-5)
    flat = torch.zeros_like(labels)
    assert torch.isfinite(boundary_loss(logits, flat, torch.ones_like(weights)))  # no boundary at all


@pytest.mark.parametrize("window", [1, 3, 5])
def test_locally_adaptive_loss(case, window):
    logits, labels, confidence = case
    weights = confidence_weights(labels, confidence, mode="hard", threshold=0.3)
    p, r = logits.detach().softmax(1), window // 2
    total = count = 0.0
    for b, y, x in pixels():
        if not weights[b, y, x]:
            continue
        c = int(labels[b, y, x])
        alike = [
            float(p[b, c, v, u])
            for v in range(max(0, y - r), min(H, y + r + 1))
            for u in range(max(0, x - r), min(W, x + r + 1))
            if int(labels[b, v, u]) == c and weights[b, v, u]
        ]
        total -= math.log(sum(alike) / len(alike))
        count += 1
    assert float(locally_adaptive_loss(logits, labels, weights, window=window)) == pytest.approx(
        total / count, rel=1e-5
    )
    if window == 1:
        plain = weighted_cross_entropy(logits, labels, weights)
        assert float(locally_adaptive_loss(logits, labels, weights, window=1)) == pytest.approx(float(plain), rel=1e-5)


def unit_rows(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_region_contrast(case):
    _, labels, confidence = case
    weights = confidence_weights(labels, confidence, mode="soft")
    embedding = torch.randn(B, 6, H, W, generator=torch.Generator().manual_seed(1)).requires_grad_()
    e, w = embedding.detach().numpy().astype(np.float64), weights.numpy()
    regions = []  # (label, vector)
    for b in range(B):
        for c in range(K):
            own = [(e[b, :, y, x], w[b, y, x]) for y in range(H) for x in range(W) if labels[b, y, x] == c]
            if sum(v for _, v in own) > 0:
                regions.append((c, sum(vec * v for vec, v in own) / sum(v for _, v in own)))
    _, found, _ = region_vectors(embedding, labels, weights, K)
    assert sorted(found.tolist()) == sorted(c for c, _ in regions) and 3 not in found
    unit = [unit_rows(v) for _, v in regions]
    losses = []
    for i, (c, _) in enumerate(regions):
        others = [j for j in range(len(regions)) if j != i]
        positives = [j for j in others if regions[j][0] == c]
        total = sum(math.exp(unit[i] @ unit[j] / 0.2) for j in others)
        if positives:
            logs = [math.log(math.exp(unit[i] @ unit[j] / 0.2) / total) for j in positives]
            losses.append(-sum(logs) / len(logs))
    got = region_contrast(embedding, labels, weights, K)
    assert float(got) == pytest.approx(sum(losses) / len(losses), rel=1e-4)
    got.backward()
    assert embedding.grad is not None and embedding.grad.abs().sum() > 0
    assert float(region_contrast(embedding[:1], labels[:1], weights[:1], K)) == 0  # no pair


def test_prototype_contrast(case):
    _, labels, confidence = case
    weights = confidence_weights(labels, confidence, mode="soft")
    embedding = torch.randn(B, 6, H, W, generator=torch.Generator().manual_seed(2)).requires_grad_()
    e = embedding.detach().numpy().astype(np.float64)
    prototypes = {}
    for c in range(K):
        own = [(float(weights[p]), unit_rows(e[p[0], :, p[1], p[2]])) for p in pixels() if labels[p] == c]
        best = sorted(own, key=lambda pair: -pair[0])[:5]
        if best:
            prototypes[c] = unit_rows(sum(w * v for w, v in best))
    got, there = class_prototypes(embedding, labels, weights, K, top=5)
    assert there.tolist() == [True, True, True, False]
    for c, vector in prototypes.items():
        assert np.allclose(got[c].detach().numpy(), vector, atol=1e-5)
    total = mass = 0.0
    for p in pixels():
        c, w = int(labels[p]), float(weights[p])
        if c != 255:
            v = unit_rows(e[p[0], :, p[1], p[2]])
            sums = {k: math.exp(v @ q / 0.1) for k, q in prototypes.items()}
            total -= w * math.log(sums[c] / sum(sums.values()))
            mass += w
    assert float(prototype_contrast(embedding, labels, weights, K, top=5)) == pytest.approx(total / mass, rel=1e-4)
    one = torch.zeros_like(labels)
    assert float(prototype_contrast(embedding, one, weights, K)) == 0


def test_at_grid_takes_the_patch_centre():
    labels = torch.arange(36).reshape(1, 6, 6)
    assert at_grid(labels, (2, 2)).tolist() == [[[7, 10], [25, 28]]]


def test_errors(case):
    logits, labels, confidence = case
    with pytest.raises(ValueError, match="hard, soft, none"):
        confidence_weights(labels, confidence, mode="maybe")
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        confidence_weights(labels, confidence, threshold=95)
    with pytest.raises(ValueError, match="wrong number of classes"):
        confidence_guided_cross_entropy(logits, labels.masked_fill(labels == 2, 9), confidence)
    with pytest.raises(ValueError, match=r"\[B, 1\+C, H, W\]"):
        confidence_guided_cross_entropy(logits[:, :, :3], labels, confidence)
    with pytest.raises(ValueError, match="odd"):
        locally_adaptive_loss(logits, labels, confidence, window=2)
