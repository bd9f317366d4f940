"""A backbone whose vision tower is any ``tower.Tower`` and whose text tower is any function of token ids."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from clipseg_ws.backbones.card import ModelCard
from clipseg_ws.backbones.common import cast, check_request, embed_texts, weights_digest
from clipseg_ws.backbones.last_block import LastBlockParts
from clipseg_ws.backbones.positions import check_interpolation
from clipseg_ws.backbones.preprocessing import CLIP_MEAN, CLIP_STD
from clipseg_ws.backbones.tower import Tower, TowerLastBlock, run_block
from clipseg_ws.structures import Tokens


@dataclass(frozen=True, eq=False)
class Speech:
    """The text tower of a model.

    Attributes:
        encode: [T, context] int64 -> [T, E]. tokenizer: list of T strings -> [T, context] int64.
        logit_scale: factor of the cosine. logit_bias: see ``protocol.Backbone``.
        ends: token rows -> [T] where they end, of a tower that computes no further; None for one that reads all.
    """

    encode: Callable[[Tensor], Tensor]
    tokenizer: Callable[[list[str]], Tensor]
    logit_scale: float
    logit_bias: float | None = None
    ends: Callable[[Tensor], Tensor] | None = None


class TowerBackbone:
    """A frozen text-aligned vision transformer of any layout, a ``protocol.Backbone``.

    Args:
        model: the whole model; put into eval mode and frozen, not copied. tower: its vision tower. speech: its texts.
        position_interpolation, name, mean, std, card: as ``openclip.OpenClipBackbone``.

    Where the tower has no class token ``Tokens.last_input`` begins with the mean patch, which stands for one.
    """

    def __init__(
        self,
        model: Any,
        tower: Tower,
        speech: Speech,
        *,
        position_interpolation: str = "bicubic",
        name: str = "custom",
        mean: Sequence[float] = CLIP_MEAN,
        std: Sequence[float] = CLIP_STD,
        card: ModelCard | None = None,
    ) -> None:
        self.position_interpolation = check_interpolation(position_interpolation)
        self.model = model.eval().requires_grad_(False)
        self.tower, self.speech, self.name = tower, speech, name
        self.mean, self.std = tuple(map(float, mean)), tuple(map(float, std))
        self.card = card or ModelCard()
        self.recommended, self.known_classes = self.card.recommended, self.card.known_classes
        self.patch_size, self.native_grid = tower.patch_size, tower.native_grid
        self.width, self.embed_dim, self.depth = tower.width, tower.embed_dim, len(tower.blocks)
        self.heads = tower.blocks[-1].heads
        self.logit_scale, self.logit_bias, self.tokenizer = speech.logit_scale, speech.logit_bias, speech.tokenizer

    @property
    def device(self) -> torch.device:
        """Device of the vision tower."""
        return self.tower.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the vision tower's weights; pixels are cast to it."""
        return self.tower.weight.dtype

    @property
    def last_block(self) -> LastBlockParts:
        """The last block and what follows it; as weights where it has CLIP's layout."""
        return self.tower.plain() or TowerLastBlock(self.tower)

    @cached_property
    def weights_sha256(self) -> str:
        """See ``common.weights_digest``."""
        return weights_digest(self.model)

    def with_positions(self, position_interpolation: str, *, compile: bool = False) -> TowerBackbone:
        """The same weights with another position interpolation; ``compile`` changes nothing here, and that is said."""
        if compile:
            warnings.warn(f"compile=true has no effect for {self.name}: only towers in CLIP's layout are compiled",
                          UserWarning, stacklevel=2)  # fmt: skip
        twin = copy.copy(self)
        twin.position_interpolation = check_interpolation(position_interpolation)
        return twin

    def place(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move all weights to ``device``; the vision tower gets ``dtype``, the text tower float32."""
        if device.type != "cpu" or dtype != torch.float32:
            _ = self.weights_sha256  # on the host and before the cast: the same weights have one name in every dtype
        self.model.to(device, torch.float32)
        if dtype != torch.float32:
            cast(self.tower.module, dtype)

    @torch.no_grad()
    def encode(self, pixels: Tensor, *, attention_blocks: int = 8, keep_layers: Sequence[int] = ()) -> Tokens:
        """See ``protocol.PictureModel``; ``attention`` is that between patches, class token's row and column dropped.

        Raises:
            ValueError: H or W is no multiple of the patch size, or an index is out of range.
        """
        check_request(pixels, attention_blocks, keep_layers, patch_size=self.patch_size, depth=self.depth)
        count, tower = min(attention_blocks, self.depth), self.tower
        grid = (pixels.shape[2] // self.patch_size, pixels.shape[3] // self.patch_size)
        x = tower.start(pixels.to(self.device, self.dtype), grid, self.position_interpolation)
        rotation, first = tower.rotation(grid), tower.class_tokens
        total = x.new_zeros(len(x), x.shape[1], x.shape[1], dtype=torch.float32) if count else None
        layers: dict[int, Tensor] = {}
        for index, block in enumerate(tower.blocks[:-1]):
            x = run_block(block, x, rotation, total if index >= self.depth - count else None)
            if index in keep_layers:
                layers[index] = x[:, first:]
        if not first:
            x = torch.cat([x.mean(1, keepdim=True), x], 1)
        if total is None and rotation is None:
            return Tokens(last_input=x, attention=None, layers=layers, grid=grid)
        last = self.last_block.attend(x, total, grid)  # kept with rotary positions: later only the grid could tell them
        attention = None if total is None else total[:, first:, first:] / (count * self.heads)
        return Tokens(last_input=x, attention=attention, layers=layers, grid=grid, last=last)

    @torch.no_grad()
    def embed(self, pixels: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, E] as the library pools, not normalised; at the native size the library's own number."""
        tokens = self.encode(pixels, attention_blocks=0)
        last = self.last_block
        return last.pool(last.forward(tokens.last_input, None, tokens.grid), "cls")

    @torch.no_grad()
    def embed_text(self, texts: Sequence[str], batch_size: int = 256) -> Tensor:
        """T strings -> [T, E] float32 unit vectors on the model's device. Raises ValueError for an empty list."""
        speech = self.speech
        return embed_texts(texts, self.tokenizer, speech.encode, batch_size, self.device, speech.ends)

    def block_qkv(
        self, index: int, tokens: Tensor, grid: tuple[int, int] | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """q, k, v [B, heads, L, d] of block ``index`` for tokens [B, L, D] that enter it, patches of ``grid`` last."""
        block = self.tower.blocks[index]
        return block.qkv(block.before(tokens), None if grid is None else self.tower.rotation(grid))


def trained_scale(model: Any) -> float:
    """Factor of the cosine that open_clip's and transformers' models keep as its logarithm."""
    return math.exp(float(model.logit_scale.detach().float().reshape(-1)[0]))


def trained_bias(model: Any) -> float | None:
    """Bias of the sigmoid, None for a model trained with a softmax."""
    bias = getattr(model, "logit_bias", None)
    return None if bias is None else float(bias.detach().float().reshape(-1)[0])
