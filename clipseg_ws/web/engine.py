"""The one model behind the page: loaded once, exchanged on demand, described in words."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from typing import Any

from clipseg_ws.activations import DENSE_MODES
from clipseg_ws.backbones import cached_weights, load_backbone
from clipseg_ws.backbones.hub import cached_file
from clipseg_ws.backbones.protocol import Backbone
from clipseg_ws.config import METHODS
from clipseg_ws.door.documents import read_json
from clipseg_ws.refine import REFINERS
from clipseg_ws.regions import REGIONS
from clipseg_ws.registry import Entry
from clipseg_ws.segmenter import Segmenter

EMBEDDED = ("photo", "nano")  # models that the package brings
MOST_KNOWN = 30  # names of a model that are told one by one
CACHE_MB = 400  # tokens of the last pictures and examples, so that a moved slider does not run the network again


class Engine:
    """Holds one model at a time, in one Segmenter that remembers the last pictures.

    Args:
        model: loaded at once; any model name. device, dtype, offline: as for ``Segmenter``.
        others: names that may be chosen besides and the embedded ones; None: those in this machine's cache.
        load: what turns a name into a backbone, for tests.
    """

    def __init__(
        self,
        model: str = "photo",
        *,
        device: str = "auto",
        dtype: str = "auto",
        offline: bool = False,
        others: Sequence[str] | None = None,
        load: Callable[..., Any] = load_backbone,
    ) -> None:
        self.options: dict[str, Any] = {"device": device, "dtype": dtype, "offline": offline}
        self._load, self._lock = load, threading.Lock()
        self.model = model
        self._segmenter = self._fetch(model)
        others = [entry.name for entry in cached_weights()] if others is None else others
        self.models: tuple[str, ...] = tuple(dict.fromkeys([model, *EMBEDDED, *others]))

    def segmenter(self, model: str | None = None) -> Segmenter:
        """The Segmenter of ``model`` (by default the loaded one), loading it in place of the other where needed.

        Raises:
            ValueError: a name that is not among ``models``. Whatever loading raises; the old model is then back.
        """
        with self._lock:
            if model is not None and model != self.model:
                self._exchange(model)
            return self._segmenter

    @property
    def backbone(self) -> Backbone:
        """Of the loaded model."""
        return self._segmenter.backbone

    def describe(self) -> str:
        """Which model is loaded and what it knows, as Markdown."""
        b = self.backbone
        facts = f"patches of {b.patch_size} px, {b.depth} blocks, width {b.width}, on {b.device}"
        if self.model == "nano":
            return (
                f"**Model `nano`** (embedded; {facts}). It knows twelve kinds of *drawn* things: {known_in_words(b)}. "
                "It has never seen a photo: **photos are out of its world**, and what it says about them means nothing."
            )
        if self.model == "photo":
            return (
                f"**Model `photo`** (embedded; {facts}). It learned from photos and the names of what they show, never "
                f"from a mask. It knows {known_in_words(b)}. **Of other words it knows nothing**, nor of drawings."
            )
        if b.known_classes:
            return f"**Model `{self.model}`** ({facts}). By its own account it knows {known_in_words(b)}."
        return (
            f"**Model `{self.model}`** ({facts}). It has no list of classes: it takes any words, and knows those well "
            "that its training texts used often. What it never saw, it still answers with something."
        )

    def _fetch(self, model: str) -> Segmenter:
        backbone = self._load(model, **self.options)
        return Segmenter(model, backbone=backbone, cache_mb=CACHE_MB, **self.options)

    def _exchange(self, model: str) -> None:
        if model not in self.models:
            raise ValueError(f"model {model!r} is not offered here; choose one of {', '.join(self.models)}")
        del self._segmenter  # one model at a time in memory
        try:
            self._segmenter = self._fetch(model)
        except Exception:
            self._segmenter = self._fetch(self.model)
            raise
        self.model = model


def known_in_words(backbone: Backbone) -> str:
    """The names that a model knows: all of a short list, the first of a long one and how many there are."""
    known = backbone.known_classes
    if len(known) <= MOST_KNOWN:
        return ", ".join(known)
    first = ", ".join(known[:20])
    return f"{len(known):,} names, among them {first} (all: `clipseg-ws list names --model {backbone.name}`)"


def methods() -> list[str]:
    """Names of the methods that work here; those that need a second vision model are left out."""
    return [name for name, entry in METHODS.items() if not _second_model(entry) and _installed(entry)]


def refiners() -> list[str]:
    """Refiners that work here: those whose extra is missing are left out."""
    local = [name for name, entry in REFINERS.items() if _installed(entry) and not entry.about.get("network")]
    return [*local, *(f"sam:{repo}" for repo in cached_sams())]


def region_sources() -> list[str]:
    """Sources of regions that work here; files are not offered, a SAM where its weights are on this machine."""
    usual = ("network", "reads_files")
    local = [n for n, entry in REGIONS.items() if _installed(entry) and not any(entry.about.get(key) for key in usual)]
    return [*local, *(f"sam:{repo}" for repo in cached_sams())]


@cache
def cached_sams() -> tuple[str, ...]:
    """Repositories of the SAM family in this machine's cache of the hub."""
    from huggingface_hub import CacheNotFound, scan_cache_dir

    from clipseg_ws.regions.sam_model import KINDS

    found = []
    with suppress(CacheNotFound, OSError, ValueError):
        for repo in scan_cache_dir().repos:
            path = cached_file(repo.repo_id, "config.json")
            if path is not None and read_json(path).get("model_type") in KINDS:
                found.append(str(repo.repo_id))
    return tuple(sorted(found))


def _second_model(method: Entry) -> bool:
    mode = method.parameters.get("dense_mode")
    return mode is not None and bool(DENSE_MODES[mode].about.get("second_model"))


def _installed(entry: Entry) -> bool:
    try:
        entry.check_installed()
    except ImportError:
        return False
    return True
