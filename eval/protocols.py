"""Evaluation protocols by name: the constants of each paper per data set, and how they become Segmenter settings.

Sources are the papers' own configurations (SCLIP arXiv 2312.01597, NACLIP 2404.08181, ClearCLIP 2407.12442, ProxyCLIP
2408.04883, CLIP-ES 2212.09506, HSNet 2104.01538, PANet 1908.06391). ``default`` imposes nothing: the method's own
settings are used and the union average is reported.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, fields, replace
from typing import Any

from clipseg_ws.registry import Entry, find, registry


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
        differing: data set -> fields that are otherwise there; see ``of``.
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
    differing: dict[str, dict[str, Any]] = field(default_factory=dict)

    def of(self, dataset: str) -> Protocol:
        """The protocol on a data set, with the constants that hold there."""
        return replace(self, differing={}, **self.differing.get(dataset, {}))

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


def _dense(name: str, **given: Any) -> Protocol:
    """Common part of the dense zero-shot family: 80 templates, long side up to 2048."""
    return Protocol(name, ("zero",), name, long_side=2048, templates="imagenet80", **given)


DEFAULT = Protocol("default")
SCLIP = _dense(
    "sclip", resize=336, window=224, stride=112, logit_scale=40.0,
    differing={
        "voc21": {"logit_scale": 65.0, "threshold": 0.1, "area_threshold": 0.1},
        "context60": {"logit_scale": 50.0, "threshold": 0.1},
        "coco-object81": {"logit_scale": 50.0, "threshold": 0.1},
        "coco-stuff171": {"resize": 448},
        "cityscapes19": {"resize": 560},
    },
)  # fmt: skip
NACLIP = _dense(
    "naclip", resize=336, window=224, stride=112, logit_scale=40.0, refine="pamr",
    differing={
        "voc21": {"window": 0, "stride": 0, "threshold": 0.1},
        "voc20": {"window": 0, "stride": 0},
        "context60": {"threshold": 0.1},
        "coco-object81": {"threshold": 0.1},
        "cityscapes19": {"resize": 560},
    },
)  # fmt: skip
CLEARCLIP = _dense(
    "clearclip", resize=448, window=448, stride=224, logit_scale=50.0,
    differing={
        "voc21": {"threshold": 0.5},
        "context60": {"threshold": 0.15},
        "coco-object81": {"threshold": 0.4},
        "cityscapes19": {"window": 224},  # as wide as the stride: its configuration sets the window alone
    },
)  # fmt: skip
PROXYCLIP = _dense(
    "proxyclip", resize=336, window=336, stride=112, logit_scale=40.0,
    differing={
        "voc21": {"threshold": 0.2},
        "context60": {"threshold": 0.15},
        "coco-object81": {"threshold": 0.25},
        "ade150": {"resize": 448},
        "cityscapes19": {"resize": 448, "window": 224},
    },
)  # fmt: skip
CLIP_ES = Protocol(
    "clip-es", ("weak",), "clip-es", templates="clip-es", average="truth", sweep=True,
    more={"affinity.threshold": 0.4},
    differing={
        name: {"more": {"affinity.threshold": 0.7}}
        for name in ("coco14", "coco-object81", "coco-stuff171", "coco20i")
    },
)  # fmt: skip
HSNET = Protocol("hsnet", ("few", "weak-few"), score_size=(400, 400))
PANET = Protocol("panet", ("few", "weak-few"), score_size=(417, 417))


def _entry(name: str, summary: str, paper: str = "") -> Entry:
    return Entry(name, summary, f"{__name__}:{name.upper().replace('-', '_')}", paper=paper)


PROTOCOLS = registry(
    _entry("default", "imposes nothing: the method's own settings"),
    _entry("sclip", "zero-shot, sliding windows of 224", "Wang et al., ECCV 2024, arXiv 2312.01597"),
    _entry("naclip", "zero-shot, sliding windows of 224, PAMR", "Hajimiri et al., WACV 2025, arXiv 2404.08181"),
    _entry("clearclip", "zero-shot, short side 448", "Lan et al., ECCV 2024, arXiv 2407.12442"),
    _entry("proxyclip", "zero-shot, windows of 336", "Lan et al., ECCV 2024, arXiv 2408.04883"),
    _entry("clip-es", "pseudo masks from tags, swept backgrounds", "Lin et al., CVPR 2023, arXiv 2212.09506"),
    _entry("hsnet", "few-shot at 400 x 400", "Min et al., ICCV 2021, arXiv 2104.01538"),
    _entry("panet", "few-shot at 417 x 417", "Wang et al., ICCV 2019, arXiv 1908.06391"),
)


def load_protocol(name: str, dataset: str, kind: str | None = None) -> Protocol:
    """The preset ``name`` resolved for a data set; ``kind`` of setting is checked where given.

    Raises ValueError for an unknown name, or a kind of setting that the protocol is not for.
    """
    protocol: Protocol = find(PROTOCOLS, name, "protocol").load()
    if kind is not None and kind not in protocol.settings:
        raise ValueError(
            f"protocol {name!r} is for the settings {', '.join(protocol.settings)}, got {kind!r}; "
            f"e.g. --protocol default"
        )
    return protocol.of(dataset)
