"""Evaluation protocols by name: the constants of each paper per data set, and how they become Segmenter settings.

Sources are the papers' own configurations (SCLIP arXiv 2312.01597, NACLIP 2404.08181, ClearCLIP 2407.12442, ProxyCLIP
2408.04883, CLIP-ES 2212.09506, HSNet 2104.01538, PANet 1908.06391). ``default`` imposes nothing: the method's own
settings are used and the union average is reported.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(frozen=True)
class Protocol:
    """What a protocol fixes; None leaves it to the method.

    Attributes:
        name: preset. settings: kinds of setting it is meant for (see guard.KINDS).
        method: the Segmenter's preset that belongs to it.
        resize: short side in pixels. long_side: upper limit of the long side.
        window, stride: sliding window in pixels, 0 = the whole picture at once.
        logit_scale: factor before the softmax. threshold: probability below which a pixel is background.
        area_threshold: share of the foreground below which a class is dropped.
        templates: name of a template list. refine: refinement on the picture.
        average: classes of the mean, "union" (in prediction or truth) or "truth".
        score_size: (H, W) of queries, supports and scoring; None: original size.
        sweep: whether background thresholds are swept by default.
        more: further Segmenter settings by name.
    """

    name: str
    settings: tuple[str, ...] = ("zero", "weak", "boxes", "points", "scribbles", "few", "weak-few", "oracle")
    method: str | None = None
    resize: int | None = None
    long_side: int | None = None
    window: int | None = None
    stride: int | None = None
    logit_scale: float | None = None
    threshold: float | None = None
    area_threshold: float | None = None
    templates: str | None = None
    refine: str | None = None
    average: str = "union"
    score_size: tuple[int, int] | None = None
    sweep: bool = False
    more: dict[str, Any] = field(default_factory=dict)

    def options(self, known: Collection[str]) -> dict[str, Any]:
        """The protocol as Segmenter settings.

        Args:
            known: names of the Segmenter's settings.

        Raises:
            ValueError: it fixes something that this Segmenter cannot be told.
        """
        wanted = {OPTION_NAMES[f.name]: getattr(self, f.name) for f in fields(self) if f.name in OPTION_NAMES}
        wanted = {key: value for key, value in wanted.items() if value is not None} | self.more
        unknown = [key for key in wanted if key not in known]
        if unknown:
            listed = ", ".join(f"{key}={wanted[key]!r}" for key in unknown)
            raise ValueError(
                f"protocol {self.name!r} fixes {listed}, for which this Segmenter has no setting; use --protocol "
                f"default and name the method, e.g. --protocol default --method {self.method or 'default'}"
            )
        return wanted


OPTION_NAMES = {  # field of a protocol -> setting of the Segmenter
    "resize": "short_side",
    "long_side": "long_side",
    "window": "window",
    "stride": "stride",
    "logit_scale": "logit_scale",
    "threshold": "background_threshold",
    "area_threshold": "area_threshold",
    "templates": "templates",
    "refine": "refine",
}
_BACKGROUND = ("voc21", "context60", "coco-object81")  # data sets whose background is thresholded


def _default(dataset: str) -> Protocol:
    return Protocol("default")


def _dense(name: str, dataset: str, **given: Any) -> Protocol:
    """Common part of the dense zero-shot family: 80 templates, long side up to 2048."""
    return Protocol(name, ("zero",), name, long_side=2048, templates="imagenet80", **given)


def _sclip(dataset: str) -> Protocol:
    return _dense(
        "sclip", dataset, resize={"coco-stuff171": 448, "cityscapes19": 560}.get(dataset, 336), window=224, stride=112,
        logit_scale={"voc21": 65.0, "context60": 50.0, "coco-object81": 50.0}.get(dataset, 40.0),
        threshold=0.1 if dataset in _BACKGROUND else None, area_threshold=0.1 if dataset == "voc21" else None,
    )  # fmt: skip


def _naclip(dataset: str) -> Protocol:
    whole = dataset in ("voc21", "voc20")
    return _dense(
        "naclip", dataset, resize=560 if dataset == "cityscapes19" else 336, window=0 if whole else 224,
        stride=0 if whole else 112, logit_scale=40.0, threshold=0.1 if dataset in _BACKGROUND else None, refine="pamr",
    )  # fmt: skip


def _clearclip(dataset: str) -> Protocol:
    return _dense(
        "clearclip", dataset, resize=448, window=224 if dataset == "cityscapes19" else 448, stride=224,
        logit_scale=50.0,
        threshold={"voc21": 0.5, "context60": 0.15, "coco-object81": 0.4}.get(dataset),
    )  # fmt: skip


def _proxyclip(dataset: str) -> Protocol:
    return _dense(
        "proxyclip", dataset, resize=448 if dataset in ("ade150", "cityscapes19") else 336,
        window=224 if dataset == "cityscapes19" else 336, stride=112, logit_scale=40.0,
        threshold={"voc21": 0.2, "context60": 0.15, "coco-object81": 0.25}.get(dataset),
    )  # fmt: skip


def _clip_es(dataset: str) -> Protocol:
    coco = dataset.startswith("coco")
    return Protocol(
        "clip-es", ("weak",), "clip-es", templates="clip-es", average="truth", sweep=True,
        more={"affinity_threshold": 0.7 if coco else 0.4},
    )  # fmt: skip


def _hsnet(dataset: str) -> Protocol:
    return Protocol("hsnet", ("few", "weak-few"), score_size=(400, 400))


def _panet(dataset: str) -> Protocol:
    return Protocol("panet", ("few", "weak-few"), score_size=(417, 417))


PROTOCOLS: dict[str, Callable[[str], Protocol]] = {
    "default": _default,
    "sclip": _sclip,
    "naclip": _naclip,
    "clearclip": _clearclip,
    "proxyclip": _proxyclip,
    "clip-es": _clip_es,
    "hsnet": _hsnet,
    "panet": _panet,
}


def load_protocol(name: str, dataset: str, kind: str | None = None) -> Protocol:
    """The preset ``name`` resolved for a data set; ``kind`` of setting is checked where given.

    Raises ValueError for an unknown name, or a kind of setting that the protocol is not for.
    """
    if name not in PROTOCOLS:
        raise ValueError(f"unknown protocol {name!r}; choose from {', '.join(PROTOCOLS)}")
    protocol = PROTOCOLS[name](dataset)
    if kind is not None and kind not in protocol.settings:
        raise ValueError(
            f"protocol {name!r} is for the settings {', '.join(protocol.settings)}, got {kind!r}; "
            f"e.g. --protocol default"
        )
    return protocol
