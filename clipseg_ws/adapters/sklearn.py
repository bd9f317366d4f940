"""A head on a frozen CLIP with scikit-learn's habits, pictures and label maps in, label maps out. scikit-learn itself
is not needed; its ``clone``, ``GridSearchCV`` and ``cross_val_score`` work with it."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clipseg_ws.heads.data import ArrayData
from clipseg_ws.heads.estimator import SegmentationHead
from clipseg_ws.heads.features import FeatureSpec, encode_features, pixel_batch, shrink_target
from clipseg_ws.heads.file import HeadCard, save_head
from clipseg_ws.heads.metrics import confusion, mean_iou
from clipseg_ws.output.items import Labels
from clipseg_ws.segmenter import Segmenter
from clipseg_ws.stored import to_labels

DETAIL = 4  # targets are this many times as fine as the patch grid, as those of ``clipseg-ws train``


class SegmentationEstimator:
    """``fit(images, masks)``, ``predict(images)``, ``score(images, masks)``.

    Args:
        model: name of a frozen CLIP. kind: of the head, a key of ``HEADS``. blocks: of the backbone, which it reads.
        classes: C names; label i + 1 is ``classes[i]``. None: "1", "2", ... up to the highest label of ``fit``.
        steps, lr, batch, seed: of the training. device: "auto", "cpu", "cuda".

    Attributes:
        head_: the trained ``SegmentationHead``. classes_: names of the labels 1, 2, ...

    Example:
        >>> head = SegmentationEstimator("photo", kind="linear", steps=200).fit(pictures, masks)
        >>> head.score(others, their_masks)
    """

    def __init__(
        self, model: str = "photo", kind: str = "decoder", blocks: Sequence[int] = (-3, -2, -1),
        classes: Sequence[str] | None = None, steps: int = 300, lr: float = 1e-3, batch: int = 16, seed: int = 0,
        device: str = "auto",
    ) -> None:  # fmt: skip
        self.model, self.kind, self.blocks, self.classes = model, kind, blocks, classes
        self.steps, self.lr, self.batch, self.seed, self.device = steps, lr, batch, seed, device

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Everything that the constructor takes, as it was given."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def set_params(self, **params: Any) -> SegmentationEstimator:
        """Change some of them; returns self. Raises ValueError for an unknown one."""
        known = self.get_params()
        for name, value in params.items():
            if name not in known:
                raise ValueError(f"parameter {name!r} is unknown; allowed: {', '.join(known)}")
            setattr(self, name, value)
        return self

    def fit(self, images: Sequence[Any], masks: Sequence[Any]) -> SegmentationEstimator:
        """Train.

        Args:
            images: as the ``Segmenter``'s call takes them. masks: label maps [H, W] of the pictures' sizes, 0
                background, 255 ignored.

        Raises:
            ValueError: another number or size of masks, labels without a name, a class without a pixel.
        """
        pictures, labels = self._paired(images, masks)
        highest = max((int(mask[mask != 255].max(initial=0)) for mask in labels), default=0)
        names = tuple(self.classes) if self.classes is not None else tuple(str(i + 1) for i in range(highest))
        if not names:
            raise ValueError("no label above 0 in any mask: nothing to learn")
        tokens = self._tokens(pictures)
        sizes = [(DETAIL * one.shape[-2], DETAIL * one.shape[-1]) for one in tokens]
        targets = [shrink_target(mask, size) for mask, size in zip(labels, sizes, strict=True)]
        head = SegmentationHead(
            self.kind, steps=self.steps, lr=self.lr, batch=self.batch, seed=self.seed,
            warmup=min(50, self.steps // 5),
        )  # fmt: skip
        self.head_ = head.fit(ArrayData(tokens, targets), classes=names)
        self.classes_ = names
        return self

    def predict(self, images: Sequence[Any]) -> list[Labels]:
        """A label map uint8 [H, W] of every picture's own size. Raises ValueError before ``fit``."""
        head, pictures = self._fitted(), self._pictures(images)
        return [
            head.predict(tokens[None], picture.size[::-1])[0].cpu().numpy().astype(np.uint8)
            for picture, tokens in zip(pictures, self._tokens(pictures), strict=True)
        ]

    def score(self, images: Sequence[Any], masks: Sequence[Any]) -> float:
        """mIoU in [0, 1] over background and classes, of all pictures together; pixels with 255 are left out."""
        pictures, truths = self._paired(images, masks)
        count = len(self._fitted().classes_) + 1
        if odd := {int(v) for truth in truths for v in np.unique(truth)} - {*range(count), 255}:
            raise ValueError(f"labels {sorted(odd)[:5]} in the masks; this head knows 0 to {count - 1}")
        matrix = torch.zeros(count, count, dtype=torch.int64)
        for made, truth in zip(self.predict(pictures), truths, strict=True):
            matrix += confusion(torch.from_numpy(made), torch.from_numpy(truth), count)
        return mean_iou(matrix)

    def save(self, path: str | Path) -> None:
        """The head's file, for ``Segmenter(head=path)`` and ``clipseg-ws predict --head``."""
        head, backbone = self._fitted(), self._segmenter().backbone
        module = head.module_
        card = HeadCard(
            head.classes_, backbone.name, backbone.weights_sha256, self._spec(), head.kind, backbone.width,
            dict(head.options), head.training.as_dict() | {"steps_done": head.n_iter_},
        )  # fmt: skip
        save_head(path, module, card)

    def _segmenter(self) -> Segmenter:
        return _loaded(self.model, self.device)

    def _spec(self) -> FeatureSpec:
        config = self._segmenter().config
        return FeatureSpec(
            tuple(self.blocks), config.short_side, config.long_side, config.max_patches, config.position_interpolation
        )  # fmt: skip

    def _tokens(self, pictures: Sequence[Any]) -> list[torch.Tensor]:
        """[L, D, h, w] float32 on the host of each picture, one at a time."""
        backbone, spec = self._segmenter().backbone, self._spec()
        return [
            encode_features(backbone, pixel_batch(backbone, [picture], spec).to(backbone.device), spec)[0].float().cpu()
            for picture in pictures
        ]

    def _pictures(self, images: Sequence[Any]) -> list[Any]:
        return [self._segmenter().prepare(image).image for image in images]

    def _paired(self, images: Sequence[Any], masks: Sequence[Any]) -> tuple[list[Any], list[Labels]]:
        if len(images) != len(masks):
            raise ValueError(f"{len(images)} pictures and {len(masks)} masks; one mask a picture is needed")
        pictures, labels = self._pictures(images), [to_labels(mask) for mask in masks]
        for number, (picture, mask) in enumerate(zip(pictures, labels, strict=True)):
            if mask.shape != picture.size[::-1]:
                raise ValueError(f"mask {number} is {list(mask.shape)}, its picture {list(picture.size[::-1])}")
        return pictures, labels

    def _fitted(self) -> SegmentationHead:
        if not hasattr(self, "head_"):
            raise ValueError("nothing was learned yet; call fit(images, masks) first")
        return self.head_

    def __repr__(self) -> str:
        return f"SegmentationEstimator({', '.join(f'{k}={v!r}' for k, v in self.get_params().items())})"


@lru_cache(maxsize=2)  # clones of a grid search share the frozen weights
def _loaded(model: str, device: str) -> Segmenter:
    return Segmenter(model, device=device)
