"""Which tokens are compared when pictures are matched with pictures: kinds of features by name.

| kind | what | width |
|---|---|---|
| input | patch tokens entering CLIP's last block; of a feature model what leaves it | D |
| norm | the same after ``ln_1`` | D |
| out | patch tokens leaving the last block | D |
| keys | keys of the last block, heads joined | D |
| values, sclip, clearclip, naclip, clip | dense embeddings in text space, see ``dense.py`` ("values" is MaskCLIP) | E |
| layer:i | patch tokens leaving block i | D |

Only "input" and "layer:i" exist for a feature model (``backbones/features.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor

from clipseg_ws.activations.dense import MODES, dense_embeddings
from clipseg_ws.backbones.protocol import PictureModel, speaks
from clipseg_ws.structures import Tokens

_DENSE = {"values": "maskclip"} | {mode: mode for mode in MODES}
_CLIP_ONLY = ("norm", "out", "keys", *_DENSE)


def feature_maps(backbone: PictureModel, tokens: Tokens, kinds: Sequence[str]) -> dict[str, Tensor]:
    """The asked kinds of features: kind -> [B, width, h, w], dtype of the tokens, not normalised.

    Args:
        backbone: a ``Backbone`` or a feature model. tokens: of its ``encode`` with ``layers_needed(kinds)``.

    Raises:
        ValueError: an unknown kind, one that this backbone does not have, or a layer that was not kept.
    """
    return {kind: _kind(backbone, tokens, kind) for kind in kinds}


def layers_needed(kinds: Iterable[str]) -> tuple[int, ...]:
    """Block indices for ``encode(keep_layers=...)`` of these kinds. Raises ValueError for a bad "layer:"."""
    return tuple(sorted({_layer(kind) for kind in kinds if kind.startswith("layer:")}))


def _kind(backbone: PictureModel, tokens: Tokens, kind: str) -> Tensor:
    if kind.startswith("layer:"):
        index = _layer(kind)
        if index not in tokens.layers:
            raise ValueError(f"features {kind!r}: block {index} was not kept; encode(keep_layers=({index},)) keeps it")
        return _as_map(tokens.layers[index], tokens)
    if kind == "input":
        return _as_map(tokens.last_input[:, 1:], tokens)
    if kind not in _CLIP_ONLY or not speaks(backbone):
        choices = ["input", "layer:INDEX", *(_CLIP_ONLY if speaks(backbone) else ())]
        raise ValueError(f"features {kind!r} are unknown for {backbone.name}; choose from {', '.join(choices)}")
    if kind in _DENSE:
        return dense_embeddings(backbone, tokens, _DENSE[kind]).permute(0, 3, 1, 2)  # [B, h, w, E] -> [B, E, h, w]
    last = backbone.last_block
    a = last.ln_1(tokens.last_input)
    if kind == "norm":
        return _as_map(a[:, 1:], tokens)
    if kind == "out":
        return _as_map(last.forward(tokens.last_input, a)[:, 1:], tokens)
    keys = last.qkv(a)[1]
    return _as_map(keys[:, :, 1:].transpose(1, 2).flatten(2), tokens)  # [B, heads, N, d] -> [B, N, heads d]


def _as_map(patches: Tensor, tokens: Tokens) -> Tensor:
    """[B, N, D] -> [B, D, h, w], row by row."""
    return patches.transpose(1, 2).unflatten(2, tokens.grid)


def _layer(kind: str) -> int:
    number = kind.removeprefix("layer:")
    if not number.isdigit():
        raise ValueError(f"features {kind!r}: a block index is needed, for example 'layer:3'")
    return int(number)
