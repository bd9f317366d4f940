"""Semantic segmentation with a frozen CLIP and no training: by names, by examples, by weak labels.

Public names are imported on first use, so ``import clipseg_ws`` does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "Segmenter": "segmenter",
    "Config": "config",
    "Segmentation": "output.segmentation",
    "Support": "structures",
    "WeakLabels": "structures",
    "Vocabulary": "structures",
    "Tokens": "structures",
    "load_backbone": "backbones",
}

__all__ = ["Config", "Segmentation", "Segmenter", "Support", "Tokens", "Vocabulary", "WeakLabels", "load_backbone"]

if TYPE_CHECKING:
    from clipseg_ws.backbones import load_backbone
    from clipseg_ws.config import Config
    from clipseg_ws.output.segmentation import Segmentation
    from clipseg_ws.segmenter import Segmenter
    from clipseg_ws.structures import Support, Tokens, Vocabulary, WeakLabels


if find_spec(f"{__name__}.prompts") is None:
    raise ImportError(
        f"{__path__[0]!r} is a folder of the checkout, without prompts/ and eval/: Python was started there and found "
        "it before the installed package. Start it elsewhere, or as python -P, or install with pip install -e ."
    )


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
