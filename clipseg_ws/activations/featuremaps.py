"""Which tokens are compared when pictures are matched with pictures: the functions behind ``activations.FEATURES``.

Each takes a backbone and its tokens and gives [B, width, h, w] in the dtype of the tokens, not normalised; the width is
D of the tokens, of dense embeddings E. A feature model (``backbones/features.py``) has "input" and "layer:i" alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from clipseg_ws.activations import FEATURES, LAYER, layer_index
from clipseg_ws.activations.dense import dense_embeddings
from clipseg_ws.backbones.protocol import speaks
from clipseg_ws.structures import Tokens


def feature_maps(backbone: Any, tokens: Tokens, kinds: Sequence[str]) -> dict[str, Tensor]:
    """The asked kinds of features: kind -> [B, width, h, w].

    Args:
        backbone: ``OpenClipBackbone`` or a feature model. tokens: of its ``encode`` with ``layers_needed(kinds)``.
        kinds: names of ``FEATURES``; "layer:3" for a block.

    Raises:
        ValueError: an unknown kind, one that this backbone does not have, or a layer that was not kept.
    """
    return {kind: _feature(backbone, tokens, kind) for kind in kinds}


def _feature(backbone: Any, tokens: Tokens, kind: str) -> Tensor:
    if kind.startswith(LAYER):
        return leaving_block(backbone, tokens, index=layer_index(kind))
    known = {name: e for name, e in FEATURES.items() if speaks(backbone) or not e.about["clip_only"]}
    if kind not in known:
        raise ValueError(f"features {kind!r} are unknown for {backbone.name}; choose from {', '.join(known)}")
    found: Tensor = known[kind].load()(backbone, tokens, **known[kind].parameters)
    return found


def entering(backbone: Any, tokens: Tokens) -> Tensor:
    """Patch tokens entering CLIP's last block; of a feature model what leaves it."""
    return _as_map(tokens.last_input[:, 1:], tokens)


def leaving_block(backbone: Any, tokens: Tokens, *, index: int = 0) -> Tensor:
    """Patch tokens leaving block ``index``. Raises ValueError where it was not kept."""
    if index not in tokens.layers:
        raise ValueError(
            f"features '{LAYER}{index}': block {index} was not kept; encode(keep_layers=({index},)) keeps it"
        )
    return _as_map(tokens.layers[index], tokens)


def normed(backbone: Any, tokens: Tokens) -> Tensor:
    """``entering`` after ``ln_1``."""
    return _as_map(backbone.last_block.ln_1(tokens.last_input)[:, 1:], tokens)


def leaving(backbone: Any, tokens: Tokens) -> Tensor:
    """Patch tokens leaving the last block."""
    last = backbone.last_block
    return _as_map(last.forward(tokens.last_input, last.ln_1(tokens.last_input), tokens.grid)[:, 1:], tokens)


def keys(backbone: Any, tokens: Tokens) -> Tensor:
    """Keys of the last block, heads joined."""
    last = backbone.last_block
    k = last.qkv(last.ln_1(tokens.last_input), tokens.grid)[1]
    return _as_map(k[:, :, 1:].transpose(1, 2).flatten(2), tokens)  # [B, heads, N, d] -> [B, N, heads d]


def dense(backbone: Any, tokens: Tokens, *, mode: str = "maskclip") -> Tensor:
    """Unit embeddings in text space, see ``dense.py``."""
    return dense_embeddings(backbone, tokens, mode).permute(0, 3, 1, 2)  # [B, h, w, E] -> [B, E, h, w]


def _as_map(patches: Tensor, tokens: Tokens) -> Tensor:
    """[B, N, D] -> [B, D, h, w], row by row."""
    return torch.unflatten(patches.transpose(1, 2), 2, tokens.grid)
