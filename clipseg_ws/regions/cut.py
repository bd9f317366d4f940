"""Cutting pictures by a source that is named, with what was cut before kept in memory and on disk."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from clipseg_ws.regions import LABELLERS, REGIONS
from clipseg_ws.regions.region_set import RegionSet
from clipseg_ws.regions.store import default_folder, key, load, path_of, save, sweep_folder
from clipseg_ws.registry import Spec, checked_spec, parse_spec

if TYPE_CHECKING:
    from clipseg_ws.regions.sam_words import Labeller

KEPT = 64  # pictures whose regions stay in memory


class Cutter:
    """A source of regions, ready to cut. Safe for several threads.

    Args:
        source: a name of ``REGIONS`` with its parameters: "superpixels(side=24)", "files:masks", "sam:REPO".
        folder: of the cache on disk; None: ``default_folder()``. Sources that only read files are not cached.
        device: of sources that are networks. offline: these never fetch weights.

    Raises:
        ValueError: an unknown source or parameter. ImportError: its extra is not installed.

    Example:
        >>> cutter = Cutter("grow(distance=4.5)")
        >>> regions = cutter(Image.open("photo.jpg"))
        >>> len(regions), regions.areas, regions.mask(0)
    """

    def __init__(
        self, source: str | Spec, folder: str | Path | None = None, *, device: str = "cpu", offline: bool = False
    ) -> None:
        spec = parse_spec(source, REGIONS, "region source") if isinstance(source, str) else source
        spec = checked_spec(spec, REGIONS, "region source")
        self.entry = REGIONS[spec.name]
        if self.entry.name == "none":
            raise ValueError("the region source 'none' cuts nothing; choose for example superpixels")
        self.entry.check_installed()
        self.parameters: dict[str, Any] = spec.resolved(REGIONS)
        self.source = str(Spec(spec.name, tuple(self.parameters.items())))
        self._network = {"device": device, "offline": offline} if self.entry.about.get("network") else {}
        self._given = folder
        self._kept: OrderedDict[str, RegionSet] = OrderedDict()
        self._lock, self._busy = Lock(), Lock()
        self.cuts = 0

    @cached_property
    def folder(self) -> Path:
        """Of the cache on disk."""
        folder = default_folder() if self._given is None else Path(self._given)
        sweep_folder(folder)
        return folder

    def prepare(self) -> None:
        """Load what the source needs (a network), so that what is missing is said before the first picture."""
        if self._network:
            from clipseg_ws.regions.sam_model import load_sam

            network: dict[str, Any] = dict(self._network)
            load_sam(self.parameters["repo"], **network)

    def __call__(self, image: Image.Image, name: str | None = None) -> RegionSet:
        """The regions of an RGB picture.

        Args:
            name: the picture's file or URL, by which ``files`` finds them.

        Raises:
            ValueError (InputError): what the source cannot cut or read.
        """
        pixels = np.asarray(image.convert("RGB"))
        size = (pixels.shape[0], pixels.shape[1])
        if self.entry.about.get("reads_files"):
            found: RegionSet = self.entry.load()(pixels, name or "", **self.parameters)
            return found
        digest = key(pixels, self.source)
        with self._lock:
            if digest in self._kept:
                self._kept.move_to_end(digest)
                return self._kept[digest]
        path = path_of(self.folder, digest)
        regions = load(path, size)
        if regions is None:
            with self._busy if self._network else nullcontext():
                regions = self.entry.load()(pixels, name or "", **self.parameters, **self._network).checked(size)
            self.cuts += 1
            save(path, regions)
        with self._lock:
            self._kept[digest] = regions
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return regions


class Cutters:
    """The cutters of one Segmenter and its variants, one a source.

    Args:
        device: of sources that are networks. offline: these never fetch weights.
    """

    def __init__(self, device: str = "cpu", offline: bool = False) -> None:
        self.device, self.offline = device, offline
        self._made: dict[str, Cutter] = {}

    def prepare(self, refiner: Spec) -> None:
        """Load the network of a refiner ("sam") on the device, so that what is missing is said before any picture."""
        if "repo" in dict(refiner.parameters) or refiner.name == "sam":
            from clipseg_ws.regions.sam_model import load_sam

            load_sam(str(refiner.get("repo", "")), self.device, self.offline)

    def labeller(self, text: str) -> Labeller | None:
        """What names things beside CLIP, loaded; None for "none". Raises as ``load_concepts``, ValueError."""
        spec = parse_spec(text, LABELLERS, "labeller")
        if spec.name == "none":
            return None
        from clipseg_ws.regions.sam_words import load_concepts

        made: Labeller = LABELLERS[spec.name].load()(
            **spec.resolved(LABELLERS), device=self.device, offline=self.offline
        )
        if not (0 <= made.threshold <= 1 and 0 < made.weight <= 1):
            raise ValueError(f"{text}: threshold in [0, 1] and weight in (0, 1] are needed, e.g. 0.3 and 1")
        load_concepts(made.repo, self.device, self.offline)
        return made

    def of(self, source: str) -> Cutter | None:
        """The cutter of a source, ready; None for "none". Raises as ``Cutter`` and ``Cutter.prepare``."""
        if source == "none":
            return None
        if source not in self._made:
            cutter = Cutter(source, device=self.device, offline=self.offline)
            cutter.prepare()
            self._made[source] = cutter
        return self._made[source]
