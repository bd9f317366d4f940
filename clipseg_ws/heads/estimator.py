"""A head as an estimator, with scikit-learn's habits: ``fit`` returns self, what was learned ends in ``_``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clipseg_ws.heads import HEADS
from clipseg_ws.heads.base import Head, make_head
from clipseg_ws.heads.data import ArrayData, HeadData, check_targets
from clipseg_ws.heads.metrics import evaluate
from clipseg_ws.heads.objective import enlarge
from clipseg_ws.heads.options import TrainConfig
from clipseg_ws.heads.training import Extra, Trainer
from clipseg_ws.heads.workers import Alone
from clipseg_ws.registry import find


class SegmentationHead:
    """A small head on frozen tokens.

    Args:
        kind: a key of ``HEADS``. options: of it, for example ``{"hidden": 128}``.
        **training: as ``TrainConfig.of`` takes them, for example ``steps=500, lr=1e-3, region=0.1``.

    Raises:
        ValueError: an unknown head or training option, a value outside its range.

    Attributes:
        classes_: C names, label i + 1 is ``classes_[i]``. module_: the trained ``Head``. n_iter_: steps done.
        history_: a dict a step. best_miou_: on the validation data, None without.

    Example:
        >>> head = SegmentationHead("linear", steps=200).fit(features, labels, classes=["cat", "dog"])
        >>> head.predict(features)  # [B, H, W]
    """

    def __init__(self, kind: str = "decoder", *, options: dict[str, Any] | None = None, **training: Any) -> None:
        self.kind, self.options = find(HEADS, kind, "head").name, dict(options or {})
        self.training = TrainConfig.of(**training)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Everything that ``set_params`` and the constructor take."""
        return {"kind": self.kind, "options": dict(self.options)} | self.training.as_dict()

    def set_params(self, **params: Any) -> SegmentationHead:
        """Change some of them; returns self."""
        self.kind, self.options = params.pop("kind", self.kind), dict(params.pop("options", self.options))
        self.training = self.training.given(**params)
        return self

    def fit(
        self, data: HeadData | Tensor | Sequence[Tensor], labels: Any = None, confidence: Any = None, *,
        classes: Sequence[str], validation: HeadData | None = None, folder: str | Path | None = None,
        extra: Extra | None = None, start: Head | None = None, workers: Alone | None = None, check: bool = True,
        about: Mapping[str, Any] | None = None,
    ) -> SegmentationHead:  # fmt: skip
        """Train.

        Args:
            data: a ``HeadData``, or tokens [B, L, D, h, w] with ``labels`` [B, H, W] and ``confidence`` [B, H, W].
            classes: C names. validation: for the choice of the best weights. folder: of checkpoint and logs.
            extra: further losses, see ``Trainer``. start: a head whose weights to begin with. workers: processes.
            check: look at all targets first. about: what made the data, see ``Trainer``.

        Raises:
            ValueError: targets that hold other labels, nothing, or nothing of a class; see ``check_targets``.
        """
        if isinstance(data, (Tensor, Sequence)):
            data = ArrayData(data, labels, confidence)
        config, names = self.training, tuple(classes)
        about = {"options": self.options, **(about or {})}
        if check:
            check_targets(data, len(names) + 1, names, threshold=config.least)
        module = start
        if module is None:
            module = make_head(self.kind, data.blocks, data.width, len(names) + 1, seed=config.seed, **self.options)
        trainer = Trainer(
            module, data, config, validation=validation, folder=folder, extra=extra, workers=workers, about=about
        )
        self.module_ = trainer.run()
        self.classes_, self.n_iter_, self.history_ = names, trainer.progress.step, trainer.progress.history
        self.best_miou_ = trainer.progress.best if validation is not None else None
        return self

    @torch.no_grad()
    def predict_proba(self, features: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """[B, L, D, h, w] -> [B, 1+C, H, W] float32, background first; by default at the head's own size."""
        module = self._fitted()
        logits = module(features.to(next(module.parameters()).device).float()).logits
        return enlarge(logits, size or logits.shape[-2:]).softmax(1)

    def predict(self, features: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """[B, L, D, h, w] -> labels [B, H, W] int64."""
        return self.predict_proba(features, size).argmax(1)

    def score(self, data: HeadData) -> float:
        """mIoU against the targets of ``data``."""
        return evaluate(self._fitted(), data)

    def _fitted(self) -> Head:
        if not hasattr(self, "module_"):
            raise ValueError("this head was not trained; call fit(features, labels, classes=[...]) first")
        return self.module_
