"""open_clip's model configuration: what can be used, judged before anything is built or fetched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clipseg_ws.backbones.declared import check_declared
from clipseg_ws.backbones.errors import NEAREST, UnsupportedBackbone
from clipseg_ws.backbones.hybrid import odd_stem
from clipseg_ws.backbones.layout import CLIP_VOCABULARY

_ODD_BLOCKS = ("qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc")
_VITS = ("vision_transformer", "vision_transformer_hybrid", "eva", "vitamin")  # timm's files of ViTs on a grid
_MOBILE = "use 'MobileCLIP2-B/dfndr2b', the family's ViT"


def check_architecture(model_cfg: Mapping[str, Any], name: str) -> None:
    """Raise UnsupportedBackbone unless the configuration describes a ViT on a grid and a text tower.

    A convolutional stem may stand in front of the ViT, see ``hybrid.py``. Training-time settings
    (``patch_dropout``, ``output_tokens``) do not matter and are accepted.
    """
    if not isinstance(model_cfg, Mapping):
        raise UnsupportedBackbone(f"the model configuration of {name!r} is no mapping; {NEAREST}")
    lacking = [key for key in ("embed_dim", "vision_cfg", "text_cfg") if key not in model_cfg]
    if lacking:
        raise UnsupportedBackbone(
            f"the model configuration of {name!r} has no {', '.join(lacking)}: it is not open_clip's; {NEAREST}"
        )
    for key in ("vision_cfg", "text_cfg"):
        if not isinstance(model_cfg[key], Mapping):
            raise UnsupportedBackbone(f"the model configuration of {name!r} has a {key} that is no mapping; {NEAREST}")
    check_declared(model_cfg, name)
    reason, instead = odd_picture_tower(model_cfg["vision_cfg"]), NEAREST
    if reason and "FastViT" in reason:
        instead = _MOBILE
    reason = reason or odd_stem(model_cfg) or _odd_text_tower(model_cfg["text_cfg"])
    if reason:
        raise UnsupportedBackbone(f"{name!r} cannot be used: {reason}; {instead}")


def odd_picture_tower(vision: Mapping[str, Any]) -> str | None:
    """Why the picture tower of ``vision_cfg`` is no ViT on a grid, or None."""
    if vision.get("timm_model_name"):
        return _odd_timm(vision)
    if not isinstance(vision.get("layers", 12), int):
        return "its image tower is a ResNet, convolutions without attention between patches"
    if isinstance(vision.get("attentional_pool"), str):
        return f"its image tower pools twice by attention ({vision['attentional_pool']}), untested in open_clip itself"
    if vision.get("pool_type", "tok") not in ("tok", "avg"):
        return f"its image tower pools by {vision['pool_type']!r}"
    if not isinstance(vision.get("patch_size", 16), int):
        return f"its patches are {vision['patch_size']}, not squares given by one number"
    odd = [key for key in _ODD_BLOCKS if vision.get(key)]
    return f"its blocks are not CLIP's ({', '.join(odd)})" if odd else None


def _odd_timm(vision: Mapping[str, Any]) -> str | None:
    name = vision["timm_model_name"]
    kind = timm_file(name)
    if kind == "convnext":
        return f"its image tower is timm's {name}, a ConvNeXt: convolutions without attention between patches"
    if kind == "fastvit":
        return (
            f"its image tower is timm's {name}, a FastViT: convolutions follow the attention of its last stage, which "
            "is on patches of 32 pixels or more, so no patch is pooled as it leaves the attention"
        )
    if kind not in _VITS:
        return f"its image tower is timm's {name} ({kind or 'unknown to this timm'}), not known to be a ViT on a grid"
    if vision.get("timm_pool", "avg") not in ("", "token", "avg", "map"):
        return f"its image tower pools by {vision['timm_pool']!r}"
    return None


def timm_file(name: str) -> str:
    """The file of timm that defines an architecture ("eva", "convnext"), or "" for an unknown name."""
    from timm.models import is_model, model_entrypoint

    bare = name.partition(".")[0]
    return str(model_entrypoint(bare).__module__).rpartition(".")[2] if is_model(bare) else ""


def _odd_text_tower(text: Mapping[str, Any]) -> str | None:
    """Why texts cannot be encoded, or None."""
    vocabulary = text.get("vocab_size", CLIP_VOCABULARY)
    if not (text.get("hf_model_name") or text.get("hf_tokenizer_name")) and vocabulary != CLIP_VOCABULARY:
        return f"its tokenizer is unnamed and not CLIP's ({vocabulary} entries)"
    if text.get("pool_type") == "none":
        return "its text tower does not pool"
    if not text.get("hf_tokenizer_name") and set(text.get("tokenizer_kwargs") or ()) - {"clean"}:
        return f"its tokenizer has settings of its own ({', '.join(text['tokenizer_kwargs'])})"
    return None
