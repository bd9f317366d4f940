"""Tokens to maps: gradients, dense embeddings, prototypes; one method one file.

``DENSE_MODES`` lists what the last block may do with its attention. A mode of q, k and v alone is a line here: which
of them are compared (the softmaxes of several pairs are added, none means the value of each patch), whether the
residual stream and the MLP are kept, whether a Gaussian of the patch distance is added to the logits.

``FEATURES`` lists which tokens are compared where pictures are matched with pictures: functions
``(backbone, tokens, **parameters) -> [B, width, h, w]`` of ``featuremaps.py``. "layer:3" is block 3 of "layer:INDEX".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from clipseg_ws.registry import Entry, registry

LAYER = "layer:"


def _mode(
    name: str, summary: str, paper: str, pairs: tuple[str, ...], keep_block: bool = False, neighbours: bool = False
) -> Entry:
    """A mode of ``dense.dense_embeddings``; see the module for the last three."""
    return Entry(
        name,
        summary,
        home="clipseg_ws.activations.dense:dense_embeddings",
        parameters={"gaussian_std": 5.0} if neighbours else {},
        paper=paper,
        about={"pairs": pairs, "keep_block": keep_block, "neighbours": neighbours},
    )


DENSE_MODES: dict[str, Entry] = registry(
    _mode(
        "clip",
        "softmax(q k), block kept: as trained",
        "Radford et al., ICML 2021, arXiv 2103.00020",
        ("qk",),
        keep_block=True,
    ),
    _mode("maskclip", "the value of each patch alone", "Zhou et al., ECCV 2022, arXiv 2112.01071", ()),
    _mode(
        "sclip",
        "softmax(q q) + softmax(k k), block kept",
        "Wang et al., ECCV 2024, arXiv 2312.01597",
        ("qq", "kk"),
        keep_block=True,
    ),
    _mode("clearclip", "softmax(q q)", "Lan et al., ECCV 2024, arXiv 2407.12442", ("qq",)),
    _mode(
        "naclip",
        "softmax(k k + Gaussian of the distance)",
        "Hajimiri et al., WACV 2025, arXiv 2404.08181",
        ("kk",),
        neighbours=True,
    ),
    Entry(
        "proxy",
        "likeness of the patches in a second vision model",
        home="clipseg_ws.activations.proxy:proxy_embeddings",
        parameters={"beta": 1.2, "gamma": 3.0},
        paper="Lan et al., ECCV 2024, arXiv 2408.04883",
        about={"second_model": True},
    ),
    Entry(
        "corrclip",
        "likeness in a second vision model, inside merged regions only; with a class token a region",
        home="clipseg_ws.regions.attention:corrclip_embeddings",
        parameters={"eps": 0.2, "sharpness": 4.0, "low": 1.0, "token": 0.5},
        paper="Zhang et al., ICCV 2025, arXiv 2411.10086",
        about={"second_model": True, "regions": True},
    ),
    Entry(
        "textregion",
        "a token a region: the mean of its patches' values",
        home="clipseg_ws.regions.attention:textregion_embeddings",
        parameters={"difference": 0.07},
        paper="Xiao et al., TMLR 2025, arXiv 2505.23769",
        about={"regions": True},
    ),
)


def _feature(name: str, summary: str, function: str, clip_only: bool = True, **parameters: Any) -> Entry:
    home = f"clipseg_ws.activations.featuremaps:{function}"
    return Entry(name, summary, home=home, parameters=parameters, about={"clip_only": clip_only})


FEATURES: dict[str, Entry] = registry(
    _feature("input", "patch tokens entering the last block; of a feature model what leaves it", "entering", False),
    _feature("layer:INDEX", "patch tokens leaving that block, for example layer:3", "leaving_block", False, index=0),
    _feature("norm", "patch tokens behind the last block's first norm", "normed"),
    _feature("out", "patch tokens leaving the last block", "leaving"),
    _feature("keys", "keys of the last block, heads joined", "keys"),
    _feature("values", "values of the last block in text space, as maskclip", "dense", mode="maskclip"),
    *(
        _feature(name, f"dense embeddings in text space, {mode.summary}", "dense", mode=name)
        for name, mode in DENSE_MODES.items()
        if "pairs" in mode.about
    ),
)


def layers_needed(kinds: Iterable[str]) -> tuple[int, ...]:
    """Block indices for ``encode(keep_layers=...)`` of these features. Raises ValueError for a bad "layer:"."""
    return tuple(sorted({layer_index(kind) for kind in kinds if kind.startswith(LAYER)}))


def layer_index(kind: str) -> int:
    """3 of "layer:3". Raises ValueError where there is no number."""
    number = kind.removeprefix(LAYER)
    if not number.isdigit():
        raise ValueError(f"features {kind!r}: a block index is needed, for example 'layer:3'")
    return int(number)
