"""Own walk over the vision tower of an ``open_clip.CLIP``: no hooks, no patched modules, any picture size."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from clipseg_ws.backbones.card import ModelCard
from clipseg_ws.backbones.common import cast, check_request, embed_texts, weights_digest
from clipseg_ws.backbones.last_block import LastBlockWeights
from clipseg_ws.backbones.layout import check_layout
from clipseg_ws.backbones.positions import check_interpolation, positions
from clipseg_ws.backbones.preprocessing import CLIP_MEAN, CLIP_STD
from clipseg_ws.backbones.short_texts import causal_tower, encode_short, end_places
from clipseg_ws.backbones.tower_backbone import trained_bias
from clipseg_ws.backbones.walk import RunBlock, block_qkv, compiled_block, forward_block, last_block_weights
from clipseg_ws.backbones.words import clip_tokenizer_module
from clipseg_ws.structures import Tokens


class OpenClipBackbone:
    """A frozen CLIP in open_clip's layout, a ``protocol.Backbone``.

    Args:
        model: an ``open_clip.CLIP`` (vision transformer with a class token, pooled by that token; behind a patch
            embedding or a ``hybrid.ConvStem``). It is put into eval mode and frozen, not copied.
        position_interpolation: how the position table follows the patch grid, see ``positions.positions``.
        name: the name it was loaded by. mean, std: RGB normalisation of pixels in [0, 1].
        tokenizer: list of T strings -> [T, context] int64; by default CLIP's BPE from open_clip.
        card: what the model says of itself; by default nothing.

    Raises:
        UnsupportedBackbone: a tower without the CLIP layout.
        ValueError: an unknown ``position_interpolation``.
    """

    def __init__(
        self,
        model: Any,
        *,
        position_interpolation: str = "bicubic",
        name: str = "custom",
        mean: Sequence[float] = CLIP_MEAN,
        std: Sequence[float] = CLIP_STD,
        tokenizer: Callable[[list[str]], Tensor] | None = None,
        card: ModelCard | None = None,
    ) -> None:
        self.position_interpolation = check_interpolation(position_interpolation)
        check_layout(model)
        self.model = model.eval().requires_grad_(False)
        self.visual: Any = model.visual
        self.name = name
        self.mean = tuple(float(v) for v in mean)
        self.std = tuple(float(v) for v in std)
        self.card = card or ModelCard()
        self.recommended, self.known_classes = self.card.recommended, self.card.known_classes
        self._tokenizer = tokenizer
        self._run_block: RunBlock = forward_block
        self.blocks: list[Any] = list(self.visual.transformer.resblocks)
        self.patch_size = int(self.visual.patch_size[0])
        self.native_grid = (int(self.visual.grid_size[0]), int(self.visual.grid_size[1]))
        self.width = int(self.visual.positional_embedding.shape[1])
        self.heads = int(self.blocks[-1].attn.num_heads)
        self.depth = len(self.blocks)
        self.embed_dim = int(self.visual.proj.shape[1])
        self.logit_scale = float(model.logit_scale.detach().float().exp())
        self.logit_bias = trained_bias(model)

    @property
    def device(self) -> torch.device:
        """Device of the vision tower."""
        device: torch.device = self.visual.proj.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the vision tower's weights; pixels are cast to it."""
        dtype: torch.dtype = self.visual.proj.dtype
        return dtype

    @property
    def last_block(self) -> LastBlockWeights:
        """The weights of the last block and of the projection; read anew, so that moved weights are followed."""
        return last_block_weights(self.visual)

    @cached_property
    def weights_sha256(self) -> str:
        """See ``common.weights_digest``."""
        return weights_digest(self.model)

    @property
    def tokenizer(self) -> Callable[[list[str]], Tensor]:
        """The tokenizer, made on first use."""
        if self._tokenizer is None:
            self._tokenizer = clip_tokenizer_module().SimpleTokenizer(context_length=self.model.context_length)
        return self._tokenizer

    def with_positions(self, position_interpolation: str, *, compile: bool = False) -> OpenClipBackbone:
        """The same weights with another position interpolation, blocks compiled or not; nothing is copied."""
        twin = copy.copy(self)
        twin.position_interpolation = check_interpolation(position_interpolation)
        twin._run_block = compiled_block() if compile else forward_block
        return twin

    def place(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move all weights to ``device``; the vision tower gets ``dtype``, the text tower float32."""
        if device.type != "cpu" or dtype != torch.float32:
            _ = self.weights_sha256  # on the host and before the cast: the same weights have one name in every dtype
        self.model.to(device, torch.float32)
        if dtype != torch.float32:
            cast(self.visual, dtype)  # names are encoded once and cached: the text tower keeps its precision

    # ---- the walk --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def encode(self, pixels: Tensor, *, attention_blocks: int = 8, keep_layers: Sequence[int] = ()) -> Tokens:
        """Everything up to the last block, and the attention of the last blocks.

        Args:
            pixels: [B, 3, H, W] normalised; H and W multiples of the patch size.
            attention_blocks: number k of last blocks (the last one included) whose attention is averaged; 0 for none;
                a tower with fewer blocks averages all it has. They are summed block by block, head by head.
            keep_layers: block indices (0-based, the last block excluded) whose patch tokens are kept.

        Raises:
            ValueError: H or W is no multiple of the patch size, or an index is out of range.
        """
        check_request(pixels, attention_blocks, keep_layers, patch_size=self.patch_size, depth=self.depth)
        attention_blocks = min(attention_blocks, self.depth)
        grid = (pixels.shape[2] // self.patch_size, pixels.shape[3] // self.patch_size)
        x = self._embed_patches(pixels.to(self.device, self.dtype), grid)
        first = self.depth - attention_blocks  # of the blocks whose attention is summed
        length = x.shape[1]
        total = x.new_zeros(len(x), length, length, dtype=torch.float32) if attention_blocks else None
        layers: dict[int, Tensor] = {}
        for index, block in enumerate(self.blocks[:-1]):
            x = self._run_block(block, x, total if index >= first else None)
            if index in keep_layers:
                layers[index] = x[:, 1:]
        if total is None:
            return Tokens(last_input=x, attention=None, layers=layers, grid=grid)
        last = self.last_block.attend(x, total)
        attention = total[:, 1:, 1:] / (attention_blocks * self.heads)  # the class token's row and column dropped
        return Tokens(last_input=x, attention=attention, layers=layers, grid=grid, last=last)

    @torch.no_grad()
    def embed(self, pixels: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, E] class embedding, not normalised: the library's ``encode_image`` at the native size."""
        tokens, last = self.encode(pixels, attention_blocks=0), self.last_block
        return last.embed(last.forward(tokens.last_input)[:, 0])

    @torch.no_grad()
    def embed_text(self, texts: Sequence[str], batch_size: int = 256) -> Tensor:
        """T strings -> [T, E] float32 unit vectors on the model's device. Raises ValueError for an empty list."""
        tower = causal_tower(self.model)
        encode = self.model.encode_text if tower is None else partial(encode_short, tower)
        ends = None if tower is None else partial(end_places, tower)
        return embed_texts(texts, self.tokenizer, encode, batch_size, self.device, ends)

    def block_qkv(
        self, index: int, tokens: Tensor, grid: tuple[int, int] | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """q, k, v [B, heads, L, d] of block ``index`` for tokens [B, L, D] that enter it."""
        block = self.blocks[index]
        return block_qkv(block, block.ln_1(tokens))

    def _embed_patches(self, pixels: Tensor, grid: tuple[int, int]) -> Tensor:
        """[B, 3, H, W] -> [B, 1+N, D] tokens that enter the first block."""
        x = self.visual.conv1(pixels).flatten(2).transpose(1, 2)  # [B, D, h, w] -> [B, N, D], row by row
        cls = self.visual.class_embedding.to(x.dtype).expand(x.shape[0], 1, -1)
        table = positions(self.visual.positional_embedding, self.native_grid, grid, self.position_interpolation)
        tokens: Tensor = self.visual.ln_pre(torch.cat([cls, x], 1) + table.to(x.dtype))
        return tokens
