"""The training loop against scikit-learn: a linear head on true masks of real photos equals logistic regression.

Tokens of a small random ViT: this checks the loop, it says nothing about CLIP.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from clipseg_ws.heads.base import normalise_tokens
from clipseg_ws.heads.data import ArrayData
from clipseg_ws.heads.estimator import SegmentationHead
from clipseg_ws.heads.features import FeatureSpec, encode_features, pixel_batch, shrink_target
from clipseg_ws.heads.metrics import confusion, mean_iou
from clipseg_ws.output.formats.png import read_label_png

PICTURES, HELD = 100, 40
GROUPS = {"person": (15,), "animal": (3, 8, 10, 12, 13, 17)}  # the rest of VOC's twenty is "thing"


def load(shared, backbone):
    """Tokens [1, D, h, w] and labels [h, w] at the patches of the first pictures with one of the two shapes."""
    root, spec = shared / "data" / "voc_train_256", FeatureSpec(blocks=(-1,), short_side=128)
    names = (root / "list.txt").read_text().split()[: PICTURES + HELD]
    features, labels = [], []
    for name in names:
        picture = Image.open(next((root / "images").glob(f"{name}.*"))).convert("RGB")
        features.append(encode_features(backbone, pixel_batch(backbone, [picture], spec), spec)[0])
        mask = read_label_png(root / "masks" / f"{name}.png")
        labels.append(np.array(shrink_target(mask, tuple(features[-1].shape[-2:]))))
    return features, labels


def test_linear_head_equals_logistic_regression(shared, tiny_backbone):
    linear_model = pytest.importorskip("sklearn.linear_model")
    features, masks = load(shared, tiny_backbone)
    table = np.full(256, 255, np.uint8)
    table[:21] = [0, *[3] * 20]
    for label, members in enumerate(GROUPS.values(), 1):
        table[list(members)] = label
    masks = [table[m] for m in masks]
    rows = [normalise_tokens(f[None])[0, 0].flatten(1).T.numpy() for f in features]
    x, y = np.concatenate(rows[:PICTURES]), np.concatenate([m.ravel() for m in masks[:PICTURES]])
    model = linear_model.LogisticRegression(C=1.0, max_iter=2000).fit(x[y != 255], y[y != 255])
    classes = [*GROUPS, "thing"]
    head = SegmentationHead(
        "linear", steps=500, batch=20, lr=0.05, weight_decay=1e-4, clip=0, weighting="none", ema=0.95
    )
    head.fit(ArrayData(features[:PICTURES], masks[:PICTURES]), classes=classes)
    scores = {}
    for name, part in (("learned from", slice(0, PICTURES)), ("held back", slice(PICTURES, None))):
        count = len(classes) + 1
        matrices = [torch.zeros(count, count, dtype=torch.int64) for _ in range(2)]
        for f, row, mask in zip(features[part], rows[part], masks[part], strict=True):
            truth = torch.from_numpy(mask).long()
            matrices[0] += confusion(torch.from_numpy(model.predict(row)).long(), truth.flatten(), count)
            matrices[1] += confusion(head.predict(f[None])[0], truth, count)
        scores[name] = [mean_iou(m) for m in matrices]
    print("mIoU of logistic regression, of the linear head:", scores)
    for theirs, ours in scores.values():
        assert abs(theirs - ours) < 0.01, scores
