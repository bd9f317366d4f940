"""Dense patch embeddings from the last block: CLIP, MaskCLIP, SCLIP, ClearCLIP and NACLIP as modes of one function.

Each mode replaces the attention of the last block and keeps or drops its residual stream and MLP; the result goes
through ``ln_post`` and ``proj`` and is compared with text by cosine. The modes, with their papers, are the lines of
``activations.DENSE_MODES``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from clipseg_ws.activations import DENSE_MODES
from clipseg_ws.backbones.protocol import Backbone
from clipseg_ws.registry import find
from clipseg_ws.structures import Tokens


@dataclass(frozen=True)
class DenseMode:
    """How one method uses the last block: what its line in ``DENSE_MODES`` says.

    Attributes:
        pairs: which of q, k, v are compared, such as "qk"; the softmaxes of several are added; none = value only.
        keep_block: keep the residual stream and the MLP of the last block.
        neighbours: add a Gaussian of the patch distance to the attention logits.
    """

    pairs: tuple[str, ...]
    keep_block: bool = False
    neighbours: bool = False


MODES = {name: DenseMode(**entry.about) for name, entry in DENSE_MODES.items() if "pairs" in entry.about}


def dense_embeddings(
    backbone: Backbone,
    tokens: Tokens,
    mode: str = "naclip",
    *,
    gaussian_std: float = 5.0,
    mix: Tensor | None = None,
    mix_weight: float = 0.5,
) -> Tensor:
    """Unit patch embeddings [B, h, w, E], comparable with text by dot product.

    Args:
        backbone: the frozen model; its ``last_block`` is used.
        tokens: of ``backbone.encode``; only ``last_input`` and ``grid`` are read.
        mode: one of ``MODES``: those of ``DENSE_MODES`` that need no second model.
        gaussian_std: standard deviation in patches of NACLIP's window (its peak is 1); other modes ignore it.
        mix: [B, N, N] attention between patches, rows adding up to 1, that is mixed with the mode's own
            (see ``correlated.py``). mix_weight: its share in [0, 1].

    Raises:
        ValueError: unknown mode, ``gaussian_std`` not positive, or a ``mix`` of another shape.
    """
    features = dense_features(backbone, tokens, mode, gaussian_std=gaussian_std, mix=mix, mix_weight=mix_weight)
    h, w = tokens.grid
    return torch.unflatten(F.normalize(features, dim=-1), 1, (h, w))  # [B, N, E] -> [B, h, w, E], row by row


def dense_features(
    backbone: Backbone,
    tokens: Tokens,
    mode: str = "naclip",
    *,
    gaussian_std: float = 5.0,
    mix: Tensor | None = None,
    mix_weight: float = 0.5,
) -> Tensor:
    """As ``dense_embeddings`` before the normalisation: [B, N, E], patches row by row."""
    find({name: DENSE_MODES[name] for name in MODES}, mode, "dense mode")
    settings = MODES[mode]
    last = backbone.last_block
    if tokens.last is None:
        q, k, v = last.qkv(last.ln_1(tokens.last_input), tokens.grid)
    else:  # computed on the way already
        q, k, v = tokens.last.q, tokens.last.k, tokens.last.v
    bias = gaussian_bias(tokens.grid, gaussian_std, q) if settings.neighbours else None
    mixed = _attend(settings, {"q": q, "k": k, "v": v}, bias, 0 if last.class_token else 1)
    if mix is not None:
        n = tokens.grid[0] * tokens.grid[1]
        if mix.shape != (v.shape[0], n, n):
            raise ValueError(
                f"mix has shape {tuple(mix.shape)}; [B, N, N] = {(v.shape[0], n, n)} is needed for a grid of "
                f"{tokens.grid}, for example row_normalised(tokens.attention)"
            )
        own_rows = max(len(settings.pairs), 1)  # SCLIP's rows add up to 2: keep that total
        shared = mix.to(v.dtype).unsqueeze(1) @ v[:, :, 1:]  # [B, 1, N, N] x [B, heads, N, d]
        mixed = (1 - mix_weight) * mixed + mix_weight * own_rows * shared
    x = last.project(mixed)
    if settings.keep_block:
        x = last.mlp(tokens.last_input[:, 1:] + x)
    return last.embed(x)


def value_embeddings(backbone: Backbone, patches: Tensor, attention: Tensor, grid: tuple[int, int]) -> Tensor:
    """Unit embeddings of any patch tokens through the last block's value path under a given attention.

    Args:
        patches: [B, N, D] tokens taken as input of the last block (its own, or those of an earlier one).
        attention: [B, N, N] between patches, the same for all heads. grid: (h, w).

    Returns [B, h, w, E]; no residual stream, no MLP.
    """
    last = backbone.last_block
    _, _, v = last.qkv(last.ln_1(patches), grid)
    x = last.project(attention.to(v.dtype).unsqueeze(1) @ v)  # [B, 1, N, N] x [B, heads, N, d]
    return torch.unflatten(F.normalize(last.embed(x), dim=-1), 1, grid)


def gaussian_bias(grid: tuple[int, int], std: float, like: Tensor) -> Tensor:
    """[N, 1+N] exp(-distance^2 / (2 std^2)) between patches (in patches), 0 in the class token's column.

    Dtype and device of ``like``. Raises ValueError for a standard deviation that is not positive.
    """
    if not std > 0:
        raise ValueError(f"gaussian_std={std}; a positive number of patches is needed, for example 5.0")
    rows, columns = (_gaussian_matrix(side, std, like.device) for side in grid)
    return F.pad(torch.kron(rows, columns), (1, 0)).to(like.dtype)  # exp(-(dy^2+dx^2)) is a product: [N, N] -> [N, 1+N]


def _gaussian_matrix(side: int, std: float, device: torch.device) -> Tensor:
    at = torch.arange(side, dtype=torch.float32, device=device)
    return torch.exp(-((at[:, None] - at) ** 2) / (2 * std**2))


def _attend(settings: DenseMode, qkv: dict[str, Tensor], bias: Tensor | None, first: int) -> Tensor:
    """[B, heads, N, d]: patches are the queries; keys and values are the rows from ``first`` on.

    A class token takes part as key and value (``first`` 0); where there is none row 0 is left out (``first`` 1).
    """
    v = qkv["v"]
    bias = None if bias is None else bias[:, first:]
    parts = [
        F.scaled_dot_product_attention(
            qkv[pair[0]][:, :, 1:], qkv[pair[1]][:, :, first:], v[:, :, first:], attn_mask=bias
        )
        for pair in settings.pairs
    ]
    return torch.stack(parts).sum(0) if parts else v[:, :, 1:]
