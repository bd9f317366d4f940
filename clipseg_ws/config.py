"""The configuration of a segmentation: one frozen dataclass, the presets by method name, and how they combine."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from clipseg_ws.activations.dense import MODES
from clipseg_ws.backbones.protocol import POSITION_INTERPOLATIONS
from clipseg_ws.fewshot.options import FewShotConfig, make_config
from clipseg_ws.refine.picture import REFINERS

BACKGROUND_RULES = ("power", "constant", "prompts")


@dataclass(frozen=True)
class Config:
    """Every setting of the pipeline, in the order in which the data meets it. Unknown keys raise."""

    method: str = "default"  # the preset this configuration started from
    # picture
    short_side: int | None = None  # resize the short side to this before rounding up to patches; None: original size
    long_side: int | None = None  # upper limit of the long side, in pixels
    max_patches: int = 2304  # larger pictures are shrunk to this many patches (48 x 48); memory grows with the square
    position_interpolation: str = "bicubic"  # "bicubic", "bilinear" (CLIP-ES), "bicubic-offset" (dense family)
    # text
    templates: str | tuple[str, ...] | None = None  # a list's name, one template or several; None: the class file's
    background: str | tuple[str, ...] | None = (
        None  # competing words, "auto"; None: the class file's, else voc-clip-es
    )
    fusion: str | None = None  # synonyms: "string" (inside one prompt) or "max" (best word); None: the class file's own
    logit_scale: float | None = None  # factor of the cosine before a softmax; None: the model's own
    # presence (zero setting only)
    presence: bool = True  # drop the names that are not in the picture before the affinity
    presence_threshold: float = 0.25  # score from which a name counts as present
    # maps
    activation: str = "gradcam"  # "gradcam", "dense" or "fused" (product of both)
    dense_mode: str = "maskclip"  # attention of the last block for dense maps, see activations/dense.py, or "proxy"
    outliers: float = 0.0  # share of the patch tokens that are replaced as outliers before the last block; 0: none
    outlier_method: str = "lof"  # how outliers are found: "lof" (SC-CLIP) or "activation" (RF-CLIP)
    correlation: str = "none"  # attention mixed into the last block: "cross" (q-k, ResCLIP), "intra" (ExCEL)
    correlation_weight: float = 0.5  # its share
    layer_fusion: str = "none"  # earlier blocks through the last one: "early" (CLIPer), "two-pass" (SC-CLIP)
    pool: str = "patch"  # image embedding of the CAM: "patch" (mean of the patches) or "cls"
    suppression: float = 0.0  # share of a map's maximum that is cut off before the affinity (DRS), 0: nothing
    scales: tuple[float, ...] = (1.0,)  # sizes at which the picture is looked at; their maps are brought together
    flip: bool = False  # look at the mirrored picture too
    doubt: float = 0.0  # standard deviations between those looks that are taken off their mean
    decision: str = (
        "maps"  # "maps" (a map per class, background rule) or "words" (softmax over all words at every pixel)
    )
    window: int = 0  # side of the sliding window in pixels, for decision "words"; 0: the whole picture at once
    stride: int = 0  # step of the window; 0: half of it
    pad_windows: bool = False  # pad windows to whole patches (ClearCLIP) instead of cutting the rest
    # refinement on the patch grid
    affinity: bool = True  # class-aware attention affinity
    attention_blocks: int = 8  # last blocks whose attention is averaged
    affinity_threshold: float = 0.4  # share of a map's maximum above which its regions are boxed (0.7 for COCO)
    sinkhorn_iterations: int = 3
    structure: str = "attention"  # what the affinity follows: "attention", "similarity" of tokens (SSA), or "both"
    structure_blocks: int = 1  # blocks before the last one whose tokens' similarity is averaged
    expand_shrink: bool = False  # lift the faint parts of a map, then draw back from the ground (ESOL)
    cross_image: float = 0.0  # weight of same-tag regions of the other pictures of a batch (the batch then matters)
    saliency: float = 0.0  # weight of what stands out in the attention, 0: none
    exclude_last: bool = False  # reproduce the reference's boxes, which never hold the last row and column
    competition: float = 0.0  # share of the dense map in the refined one: map^(1-c) * dense^c; 0: none
    # refinement on the picture
    refine: str = "none"  # see refine/picture.py
    # decision
    background_rule: str = "power"  # "power", "constant" or "prompts"
    alpha: float = 1.0  # exponent of the power rule
    background_threshold: float = 0.4  # the constant rule's score; with "words" the least probability of a class
    area_threshold: float = 0.0  # with "words": share of the foreground below which a class is dropped (SCLIP)
    min_area: float = 0.0  # share of the picture below which a class is dropped
    # matching with examples (few setting); single switches as "fewshot.parts=3"
    fewshot: FewShotConfig = field(default_factory=FewShotConfig)
    head_affinity: float = 0.5  # with a head: share of its maps spread along the attention, 0: none
    head_presence: float = 0.5  # with a head: a class whose probability reaches this nowhere is not there
    # result
    instances: bool = False  # put an instance map [H, W] int32 (0 none) into Segmentation.extras["instances"]
    keep_maps: bool = False  # put the class maps [C, H, W] into Segmentation.extras["maps"]
    batch_size: int = 8  # pictures of one size that go through the backbone together
    compile: bool = False  # torch.compile the blocks: the first picture of a size takes a minute; needs a C++ compiler
    cache_tokens: int = 0  # pictures whose tokens are kept for the next call (variants share them)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return _plain(asdict(self))


def _plain(value: Any) -> Any:
    """Tuples as lists, inside dictionaries too."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return list(value) if isinstance(value, tuple) else value


PRESETS: dict[str, dict[str, Any]] = {
    # the best that was measured on drawn scenes, every part of it in eval/results/*_ablation.csv
    "default": {"activation": "fused", "competition": 0.25, "refine": "guided"},
    # CLIP-ES without its CRF (add refine="crf"): Lin et al., CVPR 2023, arXiv 2212.09506
    "clip-es": {
        "position_interpolation": "bilinear",
        "templates": "clip-es",
        "exclude_last": True,
    },
    # the same before the affinity: softmax-GradCAM alone
    "cam": {"position_interpolation": "bilinear", "templates": "clip-es", "affinity": False},
    # with examples: masked average pooling and 20 x cosine alone (SG-One, PANet, without their training)
    "prototypes": {
        "affinity": False,
        "background_rule": "prompts",
        "fewshot": {"prior": 0.0, "refit": "none", "text_weight": 0.0},
    },
}

# changed attention in the last block, softmax over words, sliding windows; sizes and thresholds of VOC-like pictures,
# other data sets have theirs in eval/protocols.py
_DENSE = {
    "decision": "words",
    "activation": "dense",
    "presence": False,
    "affinity": False,
    "attention_blocks": 0,
    "position_interpolation": "bicubic-offset",
    "templates": "imagenet80",
    "fusion": "max",
    "short_side": 336,
    "long_side": 2048,
    "logit_scale": 40.0,
    "background_threshold": 0.1,
}
PRESETS |= {
    # Zhou et al., ECCV 2022, arXiv 2112.01071
    "maskclip": _DENSE | {"dense_mode": "maskclip", "window": 224, "stride": 112},
    # Wang et al., ECCV 2024, arXiv 2312.01597
    "sclip": _DENSE | {"dense_mode": "sclip", "window": 224, "stride": 112},
    # Lan et al., ECCV 2024, arXiv 2407.12442
    "clearclip": _DENSE
    | {"dense_mode": "clearclip", "short_side": 448, "window": 448, "stride": 224, "pad_windows": True}
    | {"logit_scale": 50.0, "background_threshold": 0.5},
    # Hajimiri et al., WACV 2025, arXiv 2404.08181; PAMR is its last step
    "naclip": _DENSE | {"dense_mode": "naclip", "refine": "pamr"},
    # Lan et al., ECCV 2024, arXiv 2408.04883; needs Segmenter(features=...)
    "proxyclip": _DENSE | {"dense_mode": "proxy", "window": 336, "stride": 112, "background_threshold": 0.2},
    # Yang et al., CVPR 2025, arXiv 2411.15851: q-k attention of blocks 6-9 mixed half and half into NACLIP's, with
    # SCLIP's windows; its second pass, guided by the first prediction, is left out
    "resclip": _DENSE
    | {"dense_mode": "naclip", "correlation": "cross", "correlation_weight": 0.5, "window": 224, "stride": 112},
}

_INNER = "fewshot."  # settings of the field that is itself a configuration

_CHOICES = {
    "activation": ("gradcam", "dense", "fused"),
    "background_rule": BACKGROUND_RULES,
    "dense_mode": (*MODES, "proxy"),
    "outlier_method": ("lof", "activation"),
    "correlation": ("none", "cross", "intra"),
    "layer_fusion": ("none", "early", "two-pass"),
    "decision": ("maps", "words"),
    "position_interpolation": POSITION_INTERPOLATIONS,
    "refine": tuple(REFINERS),
    "pool": ("patch", "cls"),
    "structure": ("attention", "similarity", "both"),
}


# settings of the maps, which a decision by words would silently leave aside
_MAPS_ONLY = ("suppression", "scales", "flip", "doubt", "expand_shrink", "cross_image", "saliency", "competition")


def resolve(method: str, given: Mapping[str, Any], recommended: Mapping[str, Any] | None = None) -> Config:
    """Defaults, then the method's preset, then what the model's own directory recommends, then what was given.

    Args:
        method: a key of ``PRESETS``. given: keyword arguments of the user.
        recommended: ``backbone.recommended``; its key "methods" holds settings for single methods, which go first.

    Raises:
        ValueError: an unknown method, key or choice; the message lists what is allowed. A setting of the maps for a
            method that decides by words.
    """
    if method not in PRESETS:
        raise ValueError(f"method {method!r} is unknown; choose one of {', '.join(PRESETS)}, for example 'default'")
    advice = dict(recommended or {})
    of_method = advice.pop("methods", {}).get(method, {})
    merged = flatten(PRESETS[method]) | flatten(advice) | flatten(of_method) | flatten(given) | {"method": method}
    inner = {key.removeprefix(_INNER): merged.pop(key) for key in list(merged) if key.startswith(_INNER)}
    known = {f.name for f in fields(Config)}
    for key in merged:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"configuration key {key!r} is unknown{hint}; known keys: {', '.join(sorted(known))}")
    values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in merged.items()}
    if isinstance(values.get("scales"), (int, float)):
        values["scales"] = (float(values["scales"]),)
    config = Config(**values, fewshot=make_config(inner))
    _check(config)
    if config.decision == "words":
        unread = [key for key in _MAPS_ONLY if key in given and getattr(config, key) != getattr(Config, key)]
        if unread:
            raise ValueError(
                f"{', '.join(unread)}: method {method!r} decides by words and does not read that; it goes with methods "
                "that make maps, for example 'default'"
            )
    return config


def flatten(settings: Mapping[str, Any]) -> dict[str, Any]:
    """``fewshot`` given as a mapping or a ``FewShotConfig`` becomes keys "fewshot.NAME", so that settings merge."""
    flat = dict(settings)
    inner = flat.pop(_INNER[:-1], None) or {}
    if not isinstance(inner, (Mapping, FewShotConfig)):
        raise ValueError(f"fewshot={inner!r}; a mapping is needed, for example fewshot={{'parts': 3}}")
    values = asdict(inner) if isinstance(inner, FewShotConfig) else inner
    return {f"{_INNER}{key}": value for key, value in values.items()} | flat


def _check(config: Config) -> None:
    for key, choices in _CHOICES.items():
        if getattr(config, key) not in choices:
            value = getattr(config, key)
            raise ValueError(
                f"{key}={value!r} is unknown; choose one of {', '.join(choices)}, for example {choices[0]!r}"
            )
    least = {"batch_size": 1, "max_patches": 1, "attention_blocks": 0, "cache_tokens": 0, "window": 0, "stride": 0}
    least |= {"structure_blocks": 1}
    for key, low in least.items():
        if getattr(config, key) < low:
            raise ValueError(f"{key}={getattr(config, key)}; a whole number of at least {low} is needed")
    _check_dense(config)
    shares = ("presence_threshold", "affinity_threshold", "background_threshold", "area_threshold", "min_area")
    for key in (*shares, "suppression", "cross_image", "saliency", "competition", "head_presence", "head_affinity"):
        if not 0 <= getattr(config, key) <= 1:
            raise ValueError(f"{key}={getattr(config, key)}; a number in [0, 1] is needed, for example 0.4")
    if config.suppression == 1 or config.doubt < 0:
        raise ValueError(
            f"suppression={config.suppression}, doubt={config.doubt}; below 1 and from 0 on, e.g. 0.45, 0.5"
        )
    if not config.scales or not all(0.25 <= scale <= 4 for scale in config.scales):
        raise ValueError(f"scales={config.scales}; numbers from 0.25 to 4 are needed, for example (1.0, 1.5)")


def _check_dense(config: Config) -> None:
    """Options of the dense maps that do not go together."""
    if not 0 <= config.outliers < 1 or not 0 <= config.correlation_weight <= 1:
        raise ValueError(
            f"outliers={config.outliers}, correlation_weight={config.correlation_weight}; shares from 0 to below 1 and "
            "from 0 to 1 are needed, for example outliers=0.05, correlation_weight=0.5"
        )
    if config.dense_mode == "proxy" and (config.correlation, config.layer_fusion) != ("none", "none"):
        raise ValueError("dense_mode='proxy' has its own attention; leave correlation and layer_fusion at 'none'")
    if config.layer_fusion == "early" and not config.attention_blocks:
        raise ValueError("layer_fusion='early' reads the blocks' mean attention; set attention_blocks, for example 12")
    if config.layer_fusion == "early" and config.correlation != "none":
        raise ValueError("layer_fusion='early' has its own attention; leave correlation at 'none'")


def parse_settings(settings: list[str] | None, where: str = "--set ", example: str = "--set alpha=2") -> dict[str, Any]:
    """["alpha=2", "affinity=false"] -> values as YAML reads them.

    Args:
        where, example: what the error says in front of the setting, and what it suggests.

    Raises ValueError for a setting without "=".
    """
    import yaml

    parsed = {}
    for item in settings or []:
        key, sign, value = item.partition("=")
        if not sign:
            raise ValueError(f"{where}{item!r} has no '='; write KEY=VALUE, for example {example}")
        parsed[key.strip()] = yaml.safe_load(value)
    return parsed
