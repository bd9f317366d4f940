"""Light heads on frozen tokens: modules, losses, training. Importing this package imports no torch.

``HEADS`` names the modules; ``estimator.SegmentationHead`` is what users hold: fit, predict, save, load.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clipseg_ws.heads.base import Head

# name -> "module:class", made as class(blocks, width, labels, **options)
HEADS = {
    "linear": "clipseg_ws.heads.linear:LinearHead",
    "mlp": "clipseg_ws.heads.decoder:MlpHead",
    "decoder": "clipseg_ws.heads.decoder:DecoderHead",
    "ocr": "clipseg_ws.heads.ocr:OcrHead",
}


def make_head(kind: str, blocks: int, width: int, labels: int, *, seed: int = 0, **options: Any) -> Head:
    """A new head of ``kind`` with weights drawn from ``seed``; torch's global generator stays as it was.

    Args:
        kind: a key of ``HEADS``. blocks: L backbone blocks it reads. width: their token width D.
        labels: 1 + C, background included. options: of the head's class.

    Raises:
        ValueError: an unknown kind, or an option that it does not have.
    """
    import torch

    if kind not in HEADS:
        raise ValueError(f"head {kind!r} is unknown; choose one of {', '.join(HEADS)}, for example 'decoder'")
    module, name = HEADS[kind].split(":")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return getattr(import_module(module), name)(blocks, width, labels, **options)
        except TypeError as error:
            raise ValueError(f"head {kind!r} does not take these options: {options} ({error})") from error
