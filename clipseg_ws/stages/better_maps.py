"""Better maps without training, each switched by a field of ``Config``; ``stages`` calls the two functions here.

| field | what | file |
|---|---|---|
| ``suppression`` | the map's peak is capped before the affinity (DRS) | activations/drs.py |
| ``structure`` | likeness of several blocks' tokens in the affinity (SSA) | refine/structure.py |
| ``expand_shrink`` | faint parts lifted, ground drawn back (ESOL) | refine/expand_shrink.py |
| ``cross_image`` | same-tag regions of the batch's other pictures (Group-WSSS, RPNet) | activations/crossimage.py |
| ``saliency`` | what stands out in the attention (I2CRC) | refine/saliency.py |
| ``scales``, ``flip``, ``doubt`` | several looks at the picture | looks.py, activations/multiscale.py |
| ``instances`` | class peaks as instances (PRM) | instances.py, activations/peaks.py |

Labels given by the user are applied again after all of them, so no result contradicts one.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from clipseg_ws.activations.crossimage import cross_image, unit_patches
from clipseg_ws.config import Config
from clipseg_ws.refine.expand_shrink import expand_shrink
from clipseg_ws.refine.saliency import apply_saliency, attention_saliency
from clipseg_ws.refine.structure import block_structure
from clipseg_ws.structures import Tokens


def structure_layers(config: Config, depth: int) -> tuple[int, ...]:
    """Blocks whose tokens ``patch_graph`` needs besides the last block's input, for ``encode(keep_layers=...)``."""
    if config.structure == "attention":
        return ()
    return tuple(range(max(depth - 1 - config.structure_blocks, 0), depth - 2))


def patch_graph(tokens: Tokens, config: Config, depth: int = 0) -> Tensor:
    """[B, N, N] non-negative: how much patches have to do with one another, as ``config.structure`` says.

    "attention" gives the tokens' mean attention as it is; "both" adds the likeness to it, rows of each summing to one.
    ``depth`` of the backbone whose ``structure_layers`` were kept; 0: the likeness of the last block's input only.
    """
    if config.structure != "similarity" and tokens.attention is None:
        raise ValueError("this model gives no attention; set affinity=False, or structure='similarity'")
    if config.structure == "attention":
        assert tokens.attention is not None
        return tokens.attention
    earlier = [tokens.layers[i] for i in structure_layers(config, depth)]
    alike = block_structure([*earlier, tokens.last_input[:, 1:]])
    if config.structure == "similarity":
        return alike
    assert tokens.attention is not None
    attention = tokens.attention.float()
    return (attention / attention.sum(-1, keepdim=True) + alike) / 2


def improve(
    maps: Tensor, tokens: Tokens, graph: Tensor | None, classes: Sequence[Sequence[int]], config: Config
) -> Tensor:
    """Maps [B, K, h, w] in [0, 1] after the affinity -> the same after what ``config`` switches on.

    ``classes`` are those of each picture's maps. ``graph`` of ``patch_graph`` is needed by the saliency only.
    """
    if not maps.shape[1] or not (config.expand_shrink or config.cross_image or config.saliency):
        return maps
    features = unit_patches(tokens.last_input[:, 1:])
    if config.expand_shrink:
        maps = expand_shrink(maps, features)
    if config.cross_image:
        maps = cross_image(maps, features, classes, config.cross_image)
    if config.saliency and graph is not None:
        maps = apply_saliency(maps, attention_saliency(graph, tokens.grid), config.saliency)
    return maps
