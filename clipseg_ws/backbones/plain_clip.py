"""CLIP as it was published, module for module as in ``open_clip.CLIP``, without what importing open_clip costs.

``import open_clip`` brings timm, torchvision, transformers and torch's compiler: two seconds before the first mask.
What a plain CLIP needs of it are five modules of torch. Names of weights, numbers and ``repr`` are open_clip's
(``tests/backbones/test_plain_clip.py`` compares them), so files, digests and caches are the same. Every configuration
that asks for more than ``is_plain`` knows is built by open_clip.

Paper: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_KNOWN = {
    "": {"embed_dim", "quick_gelu", "vision_cfg", "text_cfg"},
    "vision_cfg": {"image_size", "layers", "width", "head_width", "patch_size", "mlp_ratio", "output_tokens"},
    "text_cfg": {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"},
}
_VISION: dict[str, Any] = {
    "image_size": 224, "layers": 12, "width": 768, "head_width": 64, "patch_size": 16, "mlp_ratio": 4.0,
}  # fmt: skip
_TEXT: dict[str, Any] = {
    "context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12, "mlp_ratio": 4.0,
}  # fmt: skip


def is_plain(model_cfg: Mapping[str, Any]) -> bool:
    """Whether open_clip's configuration asks for nothing but a plain CLIP with a ViT on whole patches."""
    parts = {key: model_cfg if not key else model_cfg.get(key, {}) for key in _KNOWN}
    if any(set(part) - _KNOWN[key] for key, part in parts.items()) or "embed_dim" not in model_cfg:
        return False
    whole = all(isinstance(v, int | float) for key in ("vision_cfg", "text_cfg") for v in parts[key].values())
    return whole and not parts["vision_cfg"].get("output_tokens", False)


class QuickGELU(nn.Module):
    """The activation of OpenAI's weights."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> the same."""
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    """A pre-norm residual block."""

    def __init__(self, width: int, heads: int, mlp_ratio: float, quick_gelu: bool) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ls_1 = nn.Identity()
        self.ln_2 = nn.LayerNorm(width)
        inner = int(width * mlp_ratio)
        gelu = QuickGELU() if quick_gelu else nn.GELU()
        parts = (("c_fc", nn.Linear(width, inner)), ("gelu", gelu), ("c_proj", nn.Linear(inner, width)))
        self.mlp = nn.Sequential(OrderedDict[str, nn.Module](parts))
        self.ls_2 = nn.Identity()

    def forward(self, x: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        """[B, L, D] -> the same; ``attn_mask`` [L, L] is added to the scores."""
        a = self.ln_1(x)
        mask = None if attn_mask is None else attn_mask.to(a.dtype)
        x = x + self.attn(a, a, a, need_weights=False, attn_mask=mask)[0]
        after: Tensor = x + self.mlp(self.ln_2(x))
        return after


class Transformer(nn.Module):
    """Blocks one behind the other."""

    def __init__(self, width: int, layers: int, heads: int, mlp_ratio: float, quick_gelu: bool) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList([Block(width, heads, mlp_ratio, quick_gelu) for _ in range(layers)])

    def get_cast_dtype(self) -> torch.dtype:
        """Of the weights."""
        block: Any = self.resblocks[0]
        dtype: torch.dtype = block.mlp.c_fc.weight.dtype
        return dtype

    def forward(self, x: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        """[B, L, D] -> the same."""
        for block in self.resblocks:
            x = block(x, attn_mask=attn_mask)
        return x


class VisionTower(nn.Module):
    """A ViT with a class token, by which it is pooled."""

    def __init__(self, embed_dim: int, cfg: Mapping[str, Any], quick_gelu: bool) -> None:
        super().__init__()
        side, patch, width = cfg["image_size"], cfg["patch_size"], cfg["width"]
        self.image_size, self.patch_size = (side, side), (patch, patch)
        self.grid_size = (side // patch, side // patch)
        scale = width**-0.5
        self.conv1: nn.Module = nn.Conv2d(3, width, kernel_size=patch, stride=patch, bias=False)
        self.class_embedding = _random(scale, width)
        self.positional_embedding = _random(scale, 1 + self.grid_size[0] * self.grid_size[1], width)
        self.ln_pre = nn.LayerNorm(width)
        heads = width // cfg["head_width"]
        self.transformer = Transformer(width, cfg["layers"], heads, cfg["mlp_ratio"], quick_gelu)
        self.ln_post = nn.LayerNorm(width)
        self.proj = _random(scale, width, embed_dim)

    def forward(self, pixels: Tensor) -> Tensor:
        """[B, 3, H, W] normalised, of the trained size -> [B, E], not normalised."""
        x = self.conv1(pixels).flatten(2).transpose(1, 2)  # [B, D, h, w] -> [B, N, D]
        cls = self.class_embedding.to(x.dtype).expand(x.shape[0], 1, -1)
        x = torch.cat([cls, x], 1) + self.positional_embedding.to(x.dtype)
        pooled: Tensor = self.ln_post(self.transformer(self.ln_pre(x))[:, 0]) @ self.proj
        return pooled


class PlainClip(nn.Module):
    """See the module. Weights are random until a state dict is loaded.

    Args:
        model_cfg: of ``is_plain``.

    Example:
        >>> small = {"layers": 2, "width": 64}
        >>> PlainClip({"embed_dim": 32, "vision_cfg": small, "text_cfg": small}).visual.grid_size
        (14, 14)
    """

    def __init__(self, model_cfg: Mapping[str, Any]) -> None:
        super().__init__()
        vision, text = _VISION | dict(model_cfg["vision_cfg"]), _TEXT | dict(model_cfg["text_cfg"])
        width, embed_dim, quick = text["width"], model_cfg["embed_dim"], bool(model_cfg.get("quick_gelu", False))
        self.visual = VisionTower(embed_dim, vision, quick)
        self.transformer = Transformer(width, text["layers"], text["heads"], text["mlp_ratio"], quick)
        self.context_length, self.vocab_size = text["context_length"], text["vocab_size"]
        self.text_pool_type, self.text_eos_id = "argmax", None
        self.token_embedding = nn.Embedding(self.vocab_size, width)
        self.positional_embedding = _random(0.01, self.context_length, width)
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = _random(width**-0.5, width, embed_dim)
        side = self.context_length
        mask = torch.full((side, side), float("-inf"), device="cpu").triu_(1)  # text token i sees tokens 0..i
        self.register_buffer("attn_mask", mask, persistent=False)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.logit_bias = None

    def encode_image(self, pixels: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, E], not normalised."""
        embedding: Tensor = self.visual(pixels)
        return embedding

    def encode_text(self, ids: Tensor, normalize: bool = False) -> Tensor:
        """[T, context] token rows -> [T, E], read at the end token."""
        dtype = self.transformer.get_cast_dtype()
        x = self.token_embedding(ids).to(dtype) + self.positional_embedding.to(dtype)
        x = self.ln_final(self.transformer(x, attn_mask=self.attn_mask))
        out: Tensor = x[torch.arange(len(x), device=x.device), ids.argmax(-1)] @ self.text_projection
        return nn.functional.normalize(out, dim=-1) if normalize else out


class Undrawn(TorchFunctionMode):
    """Inside, modules draw no random weights: on the meta device that would import torch's compiler, for a second."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """The tensor as it is for ``normal_`` and ``uniform_``."""
        given = kwargs or {}
        if getattr(func, "__name__", "") in ("normal_", "uniform_"):  # of Tensor, and of torch.nn.init
            return args[0] if args else given["tensor"]
        return func(*args, **given)


def _random(scale: float, *shape: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(*shape).normal_(0, scale))
