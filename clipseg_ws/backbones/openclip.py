"""Own walk over the vision tower of an ``open_clip.CLIP``: no hooks, no patched modules, any picture size.

The blocks are read through ``ln_1``, ``attn.in_proj_weight``, ``attn.in_proj_bias``, ``attn.out_proj``,
``attn.num_heads``, ``ls_1``, ``ln_2``, ``mlp`` and ``ls_2``; both of open_clip's released block classes have them.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache, cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipseg_ws.backbones.attention import attend, explicit_is_faster
from clipseg_ws.structures import LastAttention, Tokens

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
RunBlock = Callable[[Any, Tensor, Tensor | None], Tensor]
POSITION_INTERPOLATIONS = ("bicubic", "bilinear", "bicubic-offset")


class OpenClipBackbone:
    """A frozen CLIP in open_clip's layout.

    Args:
        model: an ``open_clip.CLIP`` (vision transformer with a class token, pooled by that token).
        position_interpolation: how the position table follows the patch grid (the class entry is kept):
            "bicubic" antialiased to the size (open_clip's own), "bilinear" to the size (CLIP-ES), "bicubic-offset"
            without antialias at scale (h + 0.1) / h0 (the dense family). At the native grid all are the identity.
        name: the name it was loaded by. mean, std: RGB normalisation of pixels in [0, 1].
        tokenizer: list of T strings -> [T, context] int64; by default CLIP's BPE from open_clip.
        recommended: settings that suit these weights better than the general defaults (``pipeline.Config`` keys;
            "methods": {name: settings} for single methods).
        known_classes: what the weights know, for a model that knows only certain things (nano); empty otherwise.

    Raises:
        ValueError: an unknown ``position_interpolation`` or a tower without the CLIP layout.
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
        recommended: Mapping[str, Any] | None = None,
        known_classes: Sequence[str] = (),
    ) -> None:
        if position_interpolation not in POSITION_INTERPOLATIONS:
            raise ValueError(unknown_interpolation(position_interpolation))
        check_layout(model)
        self.model = model.eval().requires_grad_(False)
        self.visual = model.visual
        self.position_interpolation = position_interpolation
        self.name = name
        self.mean = tuple(float(v) for v in mean)
        self.std = tuple(float(v) for v in std)
        self.recommended = dict(recommended or {})
        self.known_classes = tuple(known_classes)
        self._tokenizer = tokenizer
        self._run_block: RunBlock = _forward_block
        self.blocks: list[Any] = list(self.visual.transformer.resblocks)
        self.patch_size = int(self.visual.patch_size[0])
        self.native_grid = (int(self.visual.grid_size[0]), int(self.visual.grid_size[1]))
        self.width = int(self.visual.positional_embedding.shape[1])
        self.heads = int(self.blocks[-1].attn.num_heads)
        self.depth = len(self.blocks)
        self.embed_dim = int(self.visual.proj.shape[1])
        self.logit_scale = float(model.logit_scale.detach().float().exp())

    @property
    def device(self) -> torch.device:
        """Device of the vision tower."""
        return self.visual.proj.device

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the vision tower's weights; pixels are cast to it."""
        return self.visual.proj.dtype

    @cached_property
    def weights_sha256(self) -> str:
        """SHA-256 over names, shapes and float32 values of all weights: the same on every device."""
        digest = hashlib.sha256()
        for key, value in sorted(self.model.state_dict().items()):
            digest.update(f"{key}{tuple(value.shape)}".encode())
            digest.update(value.detach().float().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def with_positions(self, position_interpolation: str, *, compile: bool = False) -> OpenClipBackbone:
        """The same weights with another position interpolation, blocks compiled or not; nothing is copied."""
        if position_interpolation not in POSITION_INTERPOLATIONS:
            raise ValueError(unknown_interpolation(position_interpolation))
        twin = copy.copy(self)
        twin.position_interpolation = position_interpolation
        twin._run_block = compiled_block() if compile else _forward_block
        return twin

    # ---- the walk -------------------------------------------------------------------------------------------------

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
        self._check(pixels, attention_blocks, keep_layers)
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
        last = self.attend_last(x, total)
        attention = total[:, 1:, 1:] / (attention_blocks * self.heads)  # the class token's row and column dropped
        return Tokens(last_input=x, attention=attention, layers=layers, grid=grid, last=last)

    @torch.no_grad()
    def encode_image(self, pixels: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, E] class embedding, not normalised: the library's ``encode_image`` at the native size."""
        tokens = self.encode(pixels, attention_blocks=0)
        return self.embed(self.last_block(tokens.last_input)[:, 0])

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str], batch_size: int = 256) -> Tensor:
        """T strings -> [T, E] float32 unit vectors on the model's device. Raises ValueError for an empty list."""
        if not texts:
            raise ValueError("encode_text got no texts; pass at least one, for example ['a photo of a cat.']")
        chunks = [
            self.model.encode_text(self.tokenizer(list(texts[i : i + batch_size])).to(self.device), normalize=False)
            for i in range(0, len(texts), batch_size)
        ]
        return F.normalize(torch.cat(chunks).float(), dim=-1)

    @property
    def tokenizer(self) -> Callable[[list[str]], Tensor]:
        """The tokenizer, made on first use."""
        if self._tokenizer is None:
            from open_clip.tokenizer import SimpleTokenizer

            self._tokenizer = SimpleTokenizer(context_length=self.model.context_length)
        return self._tokenizer

    # ---- pieces of the last block, differentiable ------------------------------------------------------------------

    def last_norm(self, last_input: Tensor) -> Tensor:
        """[B, 1+N, D] -> the activations a = ``ln_1`` of the last block, same shape."""
        return self.blocks[-1].ln_1(last_input)

    def last_qkv(self, a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """a [B, 1+N, D] -> q, k, v of the last block, each [B, heads, 1+N, d]."""
        return _qkv(self.blocks[-1], a)

    @torch.no_grad()
    def attend_last(self, last_input: Tensor, total: Tensor | None = None) -> LastAttention:
        """The last block up to its attention, whose sum over the heads is added to ``total`` [B, 1+N, 1+N]."""
        a = self.last_norm(last_input)
        q, k, v = self.last_qkv(a)
        context, probs = attend(q, k, v, total, keep=True)
        return LastAttention(a, q, k, v, probs, context)

    def last_project(self, x: Tensor) -> Tensor:
        """[B, heads, M, d] -> [B, M, D]: heads joined, ``out_proj`` (and layer scale) of the last block."""
        return _project(self.blocks[-1], x)

    def last_mlp(self, x: Tensor) -> Tensor:
        """[B, M, D] -> x + mlp(ln_2(x)) of the last block."""
        return _mlp(self.blocks[-1], x)

    def last_block(self, last_input: Tensor, a: Tensor | None = None) -> Tensor:
        """The last block's output [B, 1+N, D]; ``a`` replaces ``ln_1(last_input)`` (the residual stays as it is)."""
        q, k, v = self.last_qkv(self.last_norm(last_input) if a is None else a)
        return self.last_mlp(last_input + self.last_project(_attention(q, k).to(v.dtype) @ v))

    def embed(self, x: Tensor) -> Tensor:
        """[..., D] -> [..., E]: ``ln_post`` and ``proj``, not normalised."""
        return self.visual.ln_post(x) @ self.visual.proj

    # ---- inside ----------------------------------------------------------------------------------------------------

    def _check(self, pixels: Tensor, attention_blocks: int, keep_layers: Sequence[int]) -> None:
        p = self.patch_size
        if pixels.ndim != 4 or pixels.shape[1] != 3 or pixels.shape[2] % p or pixels.shape[3] % p:
            raise ValueError(
                f"pixels have shape {tuple(pixels.shape)}; [B, 3, H, W] with H and W multiples of the patch size {p} "
                f"is needed, for example [1, 3, {24 * p}, {32 * p}] (images.to_pixels resizes so)"
            )
        if attention_blocks < 0:
            raise ValueError(
                f"attention_blocks={attention_blocks}; 0 (none) to {self.depth} are possible, for example 8"
            )
        if any(not 0 <= i < self.depth - 1 for i in keep_layers):
            raise ValueError(f"keep_layers={tuple(keep_layers)}; indices 0 to {self.depth - 2} can be kept")

    def _embed_patches(self, pixels: Tensor, grid: tuple[int, int]) -> Tensor:
        x = self.visual.conv1(pixels).flatten(2).transpose(1, 2)  # [B, D, h, w] -> [B, N, D], row by row
        cls = self.visual.class_embedding.to(x.dtype).expand(x.shape[0], 1, -1)
        return self.visual.ln_pre(torch.cat([cls, x], 1) + self._positions(grid).to(x.dtype))

    def _positions(self, grid: tuple[int, int]) -> Tensor:
        """[1+N, D] position table for the grid; interpolated in float32."""
        table = self.visual.positional_embedding
        if grid == self.native_grid:
            return table
        h0, w0 = self.native_grid
        image = table[1:].float().reshape(1, h0, w0, -1).permute(0, 3, 1, 2)  # [N0, D] -> [1, D, h0, w0]
        if self.position_interpolation == "bicubic-offset":
            scale = ((grid[0] + 0.1) / h0, (grid[1] + 0.1) / w0)
            image = F.interpolate(image, scale_factor=scale, mode="bicubic", align_corners=False)
        else:
            mode = self.position_interpolation
            image = F.interpolate(image, size=grid, mode=mode, antialias=mode == "bicubic", align_corners=False)
        rows = image.permute(0, 2, 3, 1).reshape(grid[0] * grid[1], -1)  # [1, D, h, w] -> [N, D]
        return torch.cat([table[:1].float(), rows])


def unknown_interpolation(value: str) -> str:
    """The message for an unknown position interpolation."""
    choices = ", ".join(POSITION_INTERPOLATIONS)
    return f"position_interpolation={value!r} is unknown; choose one of {choices}, for example 'bicubic'"


def check_layout(model: Any) -> None:
    """Raise ValueError unless ``model`` is a CLIP whose vision tower is a ViT with the CLIP layout."""
    visual: Any = getattr(model, "visual", None)
    blocks = getattr(getattr(visual, "transformer", None), "resblocks", None)
    wrong = None
    if blocks is None or not hasattr(visual, "class_embedding"):
        wrong = f"its vision tower is a {type(visual).__name__}, not a CLIP vision transformer"
    elif getattr(visual, "attn_pool", None) is not None or getattr(visual, "pool_type", "tok") != "tok":
        wrong = "its vision tower pools by attention or average, not by the class token"
    elif not isinstance(visual.proj, nn.Parameter):
        wrong = "its vision tower has no linear projection"
    elif any(getattr(block.attn, "in_proj_weight", None) is None for block in blocks):
        wrong = "its attention has no joint in_proj_weight"
    elif any(not _plain_attention(block) for block in blocks):
        wrong = "its blocks use normalised, cosine or scaled attention or a norm inside the MLP"
    if wrong:
        raise ValueError(
            f"this model cannot be used: {wrong}; use a CLIP ViT, for example 'ViT-B-16-quickgelu/openai' or "
            "'ViT-L-14/laion2b_s32b_b82k'"
        )


def _plain_attention(block: Any) -> bool:
    """True where the block is the textbook pre-norm block that ``_forward_block`` computes."""
    inside = ("ln_q", "ln_k", "ln_inner")
    norms = [getattr(block.attn, name, None) for name in inside]
    norms += [getattr(block, "ln_attn", None), getattr(block.mlp, "ln", None)]
    scaled = getattr(block.attn, "scaled_cosine", False) or getattr(block.attn, "scale_heads", False)
    return not scaled and all(n is None or isinstance(n, nn.Identity) for n in norms)


def _qkv(block: Any, a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """a [B, L, D] -> q, k, v, each [B, heads, L, d]."""
    joint = F.linear(a, block.attn.in_proj_weight, block.attn.in_proj_bias)
    batch, length, _ = a.shape
    # [B, L, 3D] -> [3, B, heads, L, d]
    q, k, v = joint.reshape(batch, length, 3, block.attn.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
    return q, k, v


def _attention(q: Tensor, k: Tensor) -> Tensor:
    """softmax(q k^T / sqrt d) [B, heads, L, L] in float32."""
    return ((q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)).float().softmax(-1)


def _project(block: Any, x: Tensor) -> Tensor:
    """[B, heads, L, d] -> [B, L, D] through ``out_proj`` and the layer scale."""
    return block.ls_1(block.attn.out_proj(x.transpose(1, 2).flatten(2)))


def _mlp(block: Any, x: Tensor) -> Tensor:
    """x + mlp(ln_2(x)), [B, L, D]."""
    return x + block.ls_2(block.mlp(block.ln_2(x)))


def _forward_block(block: Any, x: Tensor, total: Tensor | None) -> Tensor:
    """One pre-norm block: [B, L, D] -> the same; its attention, summed over heads, is added to ``total`` [B, L, L]."""
    q, k, v = _qkv(block, block.ln_1(x))
    if total is None and not explicit_is_faster(v):
        context = F.scaled_dot_product_attention(q, k, v)
    else:
        (context,) = attend(q, k, v, total)
    return _mlp(block, x + _project(block, context))


@cache
def compiled_block() -> RunBlock:
    """``_forward_block`` through torch.compile, once for all blocks and Segmenters of the process."""
    return torch.compile(_forward_block)
