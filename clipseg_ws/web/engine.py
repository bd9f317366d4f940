"""The one model behind the page: loaded once, exchanged on demand, described in words."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

from clipseg_ws.backbones import cached_weights, load_backbone
from clipseg_ws.config import PRESETS
from clipseg_ws.refine import REFINERS
from clipseg_ws.segmenter import Segmenter
from clipseg_ws.web.memory import RememberingBackbone

ASKS_A_SEGMENTER = 100  # a new Segmenter after that many, so that what it keeps of old questions does not grow for ever
_NEEDS = {"crf": "pydensecrf", "superpixels": "skimage"}  # refiner -> the module it needs


class Engine:
    """Holds one model at a time.

    Args:
        model: loaded at once; any model name. device, dtype, offline: as for ``Segmenter``.
        others: names that may be chosen besides; None: the embedded one and those in this machine's cache.
        load: what turns a name into a backbone, for tests.
    """

    def __init__(
        self,
        model: str = "nano",
        *,
        device: str = "auto",
        dtype: str = "auto",
        offline: bool = False,
        others: Sequence[str] | None = None,
        load: Callable[..., Any] = load_backbone,
    ) -> None:
        self.options = {"device": device, "dtype": dtype, "offline": offline}
        self._load, self._lock = load, threading.Lock()
        self.model = model
        self.backbone: RememberingBackbone = self._fetch(model)
        others = [entry.name for entry in cached_weights()] if others is None else others
        self.models: tuple[str, ...] = tuple(dict.fromkeys([model, "nano", *others]))
        self._segmenter, self._asked = Segmenter(backbone=self.backbone), 0

    def segmenter(self, model: str | None = None) -> Segmenter:
        """The Segmenter of ``model`` (by default the loaded one), loading it in place of the other where needed.

        Raises:
            ValueError: a name that is not among ``models``. Whatever loading raises; the old model is then back.
        """
        with self._lock:
            if model is not None and model != self.model:
                self._exchange(model)
            self._asked += 1
            if self._asked > ASKS_A_SEGMENTER:
                self._segmenter, self._asked = Segmenter(backbone=self.backbone), 0
            return self._segmenter

    def describe(self) -> str:
        """Which model is loaded and what it knows, as Markdown."""
        b = self.backbone
        facts = f"patches of {b.patch_size} px, {b.depth} blocks, width {b.width}, on {b.device}"
        known = ", ".join(b.known_classes)
        if self.model == "nano":
            return (
                f"**Model `nano`** (embedded; {facts}). It knows twelve kinds of *drawn* things: {known}. It has never "
                "seen a photo: **photos are out of its world**, and what it says about them means nothing."
            )
        if known:
            return f"**Model `{self.model}`** ({facts}). By its own account it knows: {known}."
        return (
            f"**Model `{self.model}`** ({facts}). It has no list of classes: it takes any words, and knows those well "
            "that its training texts used often. What it never saw, it still answers with something."
        )

    def _fetch(self, model: str) -> RememberingBackbone:
        return RememberingBackbone(self._load(model, **self.options))

    def _exchange(self, model: str) -> None:
        if model not in self.models:
            raise ValueError(f"model {model!r} is not offered here; choose one of {', '.join(self.models)}")
        before = self.model
        del self._segmenter, self.backbone  # one model at a time in memory
        try:
            self.backbone, self.model = self._fetch(model), model
        except Exception:
            self.backbone = self._fetch(before)
            raise
        finally:
            self._segmenter, self._asked = Segmenter(backbone=self.backbone), 0


def methods() -> list[str]:
    """Names of the presets; those that need a second vision model are left out."""
    return [name for name, preset in PRESETS.items() if preset.get("dense_mode") != "proxy"]


def refiners() -> list[str]:
    """Refiners that work here: those whose extra is missing are left out."""
    return [name for name in REFINERS if name not in _NEEDS or find_spec(_NEEDS[name]) is not None]
