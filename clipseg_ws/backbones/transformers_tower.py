"""transformers' text-aligned ViTs: SigLIP, SigLIP 2 (NaFlex), AltCLIP, ChineseCLIP, MetaCLIP 2: one layout, two heads.

CLIP itself is converted to open_clip's layout (``convert.py``). What differs between the kinds of model stands in
``families.SPEAKERS``. "bicubic" positions are transformers' own here: not antialiased; of NaFlex always bilinear.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clipseg_ws.backbones.errors import NEAREST, UnsupportedBackbone, WeightsNotFound
from clipseg_ws.backbones.families import SPEAKERS
from clipseg_ws.backbones.feature_kinds import naflex_patches
from clipseg_ws.backbones.last_block import LastBlockWeights, Linear, Norm
from clipseg_ws.backbones.positions import positions
from clipseg_ws.backbones.protocol import Backbone
from clipseg_ws.backbones.tower_backbone import Speech, TowerBackbone, trained_bias, trained_scale
from clipseg_ws.backbones.words import Tokenizer

HALF = (0.5, 0.5, 0.5)


class TransformersBlock:
    """A ``tower.TowerBlock`` around an encoder layer with ``layer_norm1``, ``self_attn``, ``layer_norm2``, ``mlp``."""

    def __init__(self, layer: Any, heads: int) -> None:
        self.layer, self.heads = layer, heads

    def before(self, x: Tensor) -> Tensor:
        """[..., D] -> the same shape."""
        normed: Tensor = self.layer.layer_norm1(x)
        return normed

    def qkv(self, a: Tensor, rotation: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """a [B, L, D] -> q, k, v [B, heads, L, d]."""
        attn = self.layer.self_attn
        q, k, v = (
            torch.unflatten(part(a), 2, (self.heads, -1)).transpose(1, 2)
            for part in (attn.q_proj, attn.k_proj, attn.v_proj)
        )
        return q, k, v

    def project(self, context: Tensor) -> Tensor:
        """[B, heads, M, d] -> [B, M, D]."""
        joined: Tensor = self.layer.self_attn.out_proj(context.transpose(1, 2).flatten(2))
        return joined

    def mlp(self, x: Tensor) -> Tensor:
        """[B, M, D] -> the block's output."""
        after: Tensor = x + self.layer.mlp(self.layer.layer_norm2(x))
        return after


class TransformersTower:
    """A ``tower.Tower`` around ``model.vision_model``.

    Raises:
        UnsupportedBackbone: no such vision tower, or one without its pooling head.
    """

    def __init__(self, model: Any) -> None:
        vision, config = model.vision_model, model.config.vision_config
        self.module, self.embeddings = _Both(model), vision.embeddings
        self.vision, self.projection = vision, getattr(model, "visual_projection", None)
        layers = vision.encoder.layers
        self.blocks = [TransformersBlock(layer, int(config.num_attention_heads)) for layer in layers]
        self.patch_size, self.width = int(config.patch_size), int(config.hidden_size)
        self.class_tokens = int(hasattr(self.embeddings, "class_embedding"))
        self.pools_class_token = self.class_tokens == 1
        rows = int(self.embeddings.position_embedding.weight.shape[0]) - self.class_tokens
        self.native_grid = (round(rows**0.5), round(rows**0.5))
        self.embed_dim = self.width if self.projection is None else int(self.projection.out_features)
        if not self.class_tokens and getattr(vision, "head", None) is None:
            raise UnsupportedBackbone(f"this model cannot be used: its vision tower has no pooling head; {NEAREST}")

    @property
    def weight(self) -> Tensor:
        """The position table."""
        weight: Tensor = self.embeddings.position_embedding.weight
        return weight

    def start(self, pixels: Tensor, grid: tuple[int, int], how: str) -> Tensor:
        """[B, 3, H, W] -> [B, class_tokens + N, D]."""
        embed = self.embeddings.patch_embedding
        flexible = isinstance(embed, nn.Linear)
        x = embed(naflex_patches(pixels, self.patch_size)) if flexible else embed(pixels).flatten(2).transpose(1, 2)
        own = "bilinear-smooth" if flexible else "bicubic-plain"
        table = positions(self.weight, self.native_grid, grid, own if how == "bicubic" else how, self.class_tokens)
        if not self.class_tokens:
            tokens: Tensor = x + table.to(x.dtype)
            return tokens
        first = self.embeddings.class_embedding.to(x.dtype).expand(len(x), 1, -1)
        normed: Tensor = self.vision.pre_layrnorm(torch.cat([first, x], 1) + table.to(x.dtype))  # their spelling
        return normed

    def rotation(self, grid: tuple[int, int]) -> Tensor | None:
        """None."""
        return None

    def pool(self, x: Tensor) -> Tensor:
        """[B, class_tokens + N, D] -> [B, E]: the class token projected, or the attention head."""
        if self.projection is None:
            pooled: Tensor = self.vision.head(self.vision.post_layernorm(x))
            return pooled
        embedding: Tensor = self.projection(self.vision.post_layernorm(x[:, 0]))
        return embedding

    def embed(self, x: Tensor) -> Tensor:
        """[M, D] -> [M, E]: a sequence of one token."""
        return self.pool(x[:, None])

    def plain(self) -> LastBlockWeights | None:
        """CLIP's layout where there is a class token; q, k and v are joined anew each time."""
        if self.projection is None:
            return None
        layer, heads = self.blocks[-1].layer, self.blocks[-1].heads
        parts = [getattr(layer.self_attn, f"{name}_proj") for name in "qkv"]
        bias = None if parts[0].bias is None else torch.cat([part.bias for part in parts])
        return LastBlockWeights(
            heads=heads,
            ln_1=_norm(layer.layer_norm1),
            in_proj=Linear(torch.cat([part.weight for part in parts]), bias),
            out_proj=Linear(layer.self_attn.out_proj.weight, layer.self_attn.out_proj.bias),
            scale_1=None,
            ln_2=_norm(layer.layer_norm2),
            fc1=Linear(layer.mlp.fc1.weight, layer.mlp.fc1.bias),
            activation=layer.mlp.activation_fn,
            fc2=Linear(layer.mlp.fc2.weight, layer.mlp.fc2.bias),
            scale_2=None,
            ln_post=_norm(self.vision.post_layernorm),
            projection=self.projection.weight.t(),
        )


class _Both:
    """The vision tower with its projection: what ``TowerBackbone.place`` casts."""

    def __init__(self, model: Any) -> None:
        self.parts = [model.vision_model, getattr(model, "visual_projection", None)]

    def to(self, *where: Any) -> None:
        """As ``nn.Module.to``."""
        for part in self.parts:
            if part is not None:
                part.to(*where)


def wrap_speaker(model: Any, *, tokenizer: Tokenizer | None = None, **settings: Any) -> Backbone:
    """For ``backbones.wrap``: a text-aligned model of transformers of a kind in ``families.SPEAKERS``.

    Raises UnsupportedBackbone without a ``tokenizer`` (list of T strings -> [T, context] int64).
    """
    entry = SPEAKERS[model.config.model_type]
    if tokenizer is None:
        raise UnsupportedBackbone(
            f"this {type(model).__name__} needs its tokenizer, for example wrap(model, tokenizer="
            "clipseg_ws.backbones.words.folder_tokenizer(path, 64))"
        )
    if model.config.model_type in ("siglip", "siglip2"):
        settings = {"mean": HALF, "std": HALF} | settings
    mask = model.config.text_config.pad_token_id if entry.about["mask"] else None
    speech = Speech(partial(_encode_text, model, mask), tokenizer, trained_scale(model), trained_bias(model))
    return TowerBackbone(model, TransformersTower(model), speech, **settings)


def read_speaker(folder: Path, kind: str) -> Any:
    """The model in a folder, float32, every weight there. Raises ValueError, WeightsNotFound."""
    import transformers

    try:
        model, report = getattr(transformers, SPEAKERS[kind].about["class"]).from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, dtype=torch.float32, output_loading_info=True
        )
    except AttributeError as error:
        raise UnsupportedBackbone(
            f"{folder}: this transformers ({transformers.__version__}) has no {SPEAKERS[kind].about['class']}; "
            "update it (pip install -U transformers)"
        ) from error
    except Exception as error:  # transformers' own kinds of error differ between releases
        raise ValueError(f"{folder}: transformers cannot read the model: {str(error)[:200]}") from error
    missing = [key for key in report["missing_keys"] if not key.endswith("position_ids")]
    if missing:
        raise WeightsNotFound(f"{folder}: {len(missing)} weights are missing, such as {sorted(missing)[0]!r}")
    return model


def _encode_text(model: Any, pad: int | None, ids: Tensor) -> Tensor:
    mask = None if pad is None else (ids != pad).long()
    out = model.get_text_features(input_ids=ids, attention_mask=mask)
    embeddings: Tensor = out if isinstance(out, Tensor) else out.pooler_output  # a tensor before transformers 5
    return embeddings


def _norm(module: nn.LayerNorm) -> Norm:
    return Norm(module.weight, module.bias, module.eps)
