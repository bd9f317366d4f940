"""A transformers CLIP checkpoint as an ``open_clip.CLIP`` with the same numbers, so that there is one walk.

The two libraries hold the same network under different names: transformers keeps q, k and v apart and its projections
as linear layers, open_clip joins q, k and v in ``in_proj_*`` and keeps its projections as matrices on the right.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from clipseg_ws.backbones.architecture import check_architecture
from clipseg_ws.backbones.errors import UnsupportedBackbone
from clipseg_ws.backbones.layout import CLIP_END_OF_TEXT, build_clip
from clipseg_ws.backbones.openclip import OpenClipBackbone
from clipseg_ws.backbones.protocol import Backbone

LEGACY_END_OF_TEXT = 2  # written by transformers before 4.31; means "the largest token id", CLIP's end of text
_QUICK_GELU = {"quick_gelu": True, "gelu": False}
_EPS = 1e-5  # open_clip's layer norm, unless norm_kwargs says otherwise

_NAMES = {
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "logit_scale": "logit_scale",
}
_TRANSPOSED = {"visual_projection.weight": "visual.proj", "text_projection.weight": "text_projection"}
_NORMS = {
    "vision_model.pre_layrnorm": "visual.ln_pre",  # the spelling is transformers'
    "vision_model.post_layernorm": "visual.ln_post",
    "text_model.final_layer_norm": "ln_final",
}
_TOWERS = {
    "vision_model.encoder.layers.": "visual.transformer.resblocks.",
    "text_model.encoder.layers.": "transformer.resblocks.",
}
_PARTS = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}


def convert_clip(config: Any, state: Mapping[str, Tensor], where: str = "transformers checkpoint") -> Any:
    """An ``open_clip.CLIP`` computing what ``transformers.CLIPModel`` computes from the same weights.

    Args:
        config: a ``transformers.CLIPConfig``.
        state: ``CLIPModel.state_dict()``; tensors that need no change of shape are shared, not copied.
        where: file or repository, for messages.

    Raises:
        UnsupportedBackbone: an activation, tokenizer or input that CLIP in open_clip's layout does not have.
        ValueError: weights missing, left over or of another shape than the configuration says.
    """
    model_cfg = to_open_clip_config(config, where)
    check_architecture(model_cfg, where)
    return build_clip(model_cfg, to_open_clip_state(state), where)


def wrap_transformers(model: Any, **settings: Any) -> Backbone:
    """For ``backbones.wrap``: that of a ``transformers.CLIPModel``, on its device. Raises as ``convert_clip``."""
    converted = convert_clip(model.config, model.state_dict(), type(model).__name__)
    return OpenClipBackbone(converted.to(model.device), **settings)


def to_open_clip_config(config: Any, where: str = "transformers checkpoint") -> dict[str, Any]:
    """``transformers.CLIPConfig`` -> open_clip's model configuration. Raises as ``convert_clip``."""
    vision, text = config.vision_config, config.text_config
    acts = {vision.hidden_act, text.hidden_act}
    if len(acts) > 1 or not acts <= set(_QUICK_GELU):
        raise UnsupportedBackbone(
            f"{where}: hidden_act is {vision.hidden_act!r} for pictures and {text.hidden_act!r} for texts; one of "
            f"{', '.join(map(repr, _QUICK_GELU))} for both is supported, for example 'quick_gelu' (OpenAI's weights)"
        )
    if vision.num_channels != 3:
        raise UnsupportedBackbone(f"{where}: num_channels is {vision.num_channels}; pictures have 3 (RGB)")
    if text.eos_token_id not in (LEGACY_END_OF_TEXT, CLIP_END_OF_TEXT):
        raise UnsupportedBackbone(
            f"{where}: eos_token_id is {text.eos_token_id}; CLIP's tokenizer ends texts with {CLIP_END_OF_TEXT}"
        )
    image = {
        "image_size": vision.image_size if isinstance(vision.image_size, int) else tuple(vision.image_size),
        "patch_size": _one_number(vision.patch_size),
        "head_width": vision.hidden_size // vision.num_attention_heads,
    }
    words = {
        "context_length": text.max_position_embeddings,
        "vocab_size": text.vocab_size,
        "heads": text.num_attention_heads,
    }
    return {
        "embed_dim": config.projection_dim,
        "quick_gelu": _QUICK_GELU[acts.pop()],
        "vision_cfg": _tower(vision) | image,
        "text_cfg": _tower(text) | words,
    }


def to_open_clip_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a ``CLIPModel`` under open_clip's names; names that CLIP does not have are kept as they are."""
    result: dict[str, Tensor] = {}
    for key, value in state.items():
        if key.endswith(".position_ids"):  # a counter that old checkpoints stored
            continue
        if key in _TRANSPOSED:
            result[_TRANSPOSED[key]] = value.T.contiguous()  # [E, D] -> [D, E]
            continue
        if ".self_attn.q_proj." in key:
            others = [key.replace(".q_proj.", f".{part}_proj.") for part in "kv"]
            if all(other in state for other in others):  # else the check of the weights reports the joint one missing
                # three of [D, D] (or [D]) -> [3D, D] (or [3D]), in the order q, k, v
                result[_rename(key)] = torch.cat([value, *(state[other] for other in others)])
            continue
        if ".self_attn.k_proj." not in key and ".self_attn.v_proj." not in key:
            result[_rename(key)] = value
    return result


def _rename(key: str) -> str:
    """transformers' name -> open_clip's; unknown names stay, so that the check of the weights reports them."""
    if key in _NAMES:
        return _NAMES[key]
    stem, _, kind = key.rpartition(".")
    if stem in _NORMS:
        return f"{_NORMS[stem]}.{kind}"
    for prefix, blocks in _TOWERS.items():
        if stem.startswith(prefix):
            index, _, part = stem.removeprefix(prefix).partition(".")
            if part == "self_attn.q_proj":
                return f"{blocks}{index}.attn.in_proj_{kind}"
            if part in _PARTS:
                return f"{blocks}{index}.{_PARTS[part]}.{kind}"
    return key


def _tower(config: Any) -> dict[str, Any]:
    """What both towers share: width, depth, width of the MLP, epsilon of the layer norms."""
    tower: dict[str, Any] = {
        "width": config.hidden_size,
        "layers": config.num_hidden_layers,
        # open_clip computes int(width * ratio); half a unit more survives the rounding of the division
        "mlp_ratio": (config.intermediate_size + 0.5) / config.hidden_size,
    }
    if config.layer_norm_eps != _EPS:
        tower["norm_kwargs"] = {"eps": config.layer_norm_eps}
    return tower


def _one_number(size: Any) -> Any:
    """A patch size given as [p, p] -> p; anything else stays and is judged by ``check_architecture``."""
    if isinstance(size, list | tuple) and len(set(size)) == 1:
        return size[0]
    return size
