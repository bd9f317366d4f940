"""From open_clip's model configuration and a state dict to a frozen-ready ``open_clip.CLIP``, or a clear refusal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from clipseg_ws.backbones.errors import UnsupportedBackbone

CLIP_VOCABULARY = 49408
CLIP_END_OF_TEXT = 49407
_USE_INSTEAD = "use a CLIP ViT, for example 'ViT-B-16-quickgelu/openai' or 'ViT-L-14/datacomp_xl_s13b_b90k'"
_ODD_BLOCKS = ("qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc")
# entries of OpenAI's and of old open_clip's files that are no weights
_NOT_WEIGHTS = {"input_resolution", "context_length", "vocab_size", "attn_mask"}


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A model as it came from disk, on the CPU.

    Attributes:
        model: an ``open_clip.CLIP``, weights in the dtype of the file.
        mean, std: RGB normalisation of pixels in [0, 1] that the weights were trained with.
        tokenizer: list of T strings -> [T, context] int64.
        recommended, known_classes: see ``protocol.Backbone``.
    """

    model: Any
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    tokenizer: Callable[[list[str]], Tensor]
    recommended: Mapping[str, Any] = field(default_factory=dict)
    known_classes: tuple[str, ...] = ()

    def settings(self) -> dict[str, Any]:
        """All but the model, as ``backbones.wrap`` takes them."""
        return {key: value for key, value in vars(self).items() if key != "model"}


def check_architecture(model_cfg: Mapping[str, Any], name: str) -> None:
    """Raise UnsupportedBackbone unless the configuration describes CLIP's ViT and CLIP's text transformer.

    Training-time settings (``patch_dropout``, ``output_tokens``) do not matter and are accepted.
    """
    lacking = [key for key in ("embed_dim", "vision_cfg", "text_cfg") if key not in model_cfg]
    if lacking:
        raise UnsupportedBackbone(
            f"the model configuration of {name!r} has no {', '.join(lacking)}: it is not open_clip's; {_USE_INSTEAD}"
        )
    reason = _odd_image_tower(model_cfg) or _odd_text_tower(model_cfg["text_cfg"])
    if reason:
        raise UnsupportedBackbone(f"{name!r} cannot be used: {reason}; {_USE_INSTEAD}")


def _odd_image_tower(model_cfg: Mapping[str, Any]) -> str | None:
    """Why the image tower has not the CLIP layout, or None."""
    vision = model_cfg["vision_cfg"]
    if "multimodal_cfg" in model_cfg:
        return "it is a CoCa model"
    if vision.get("timm_model_name"):
        return f"its image tower is timm's {vision['timm_model_name']} (EVA, SigLIP, ConvNeXt and the like)"
    if not isinstance(vision.get("layers", 12), int):
        return "its image tower is a ResNet"
    if vision.get("attentional_pool"):
        return "its image tower pools by attention"
    if vision.get("pool_type", "tok") != "tok":
        return f"its image tower pools by {vision['pool_type']!r}, so its class token is not trained"
    if not isinstance(vision.get("patch_size", 16), int):
        return f"its patches are {vision['patch_size']}, not squares given by one number"
    odd = [key for key in _ODD_BLOCKS if vision.get(key)]
    return f"its blocks are not CLIP's ({', '.join(odd)})" if odd else None


def _odd_text_tower(text: Mapping[str, Any]) -> str | None:
    """Why the text tower is not CLIP's, or None."""
    if text.get("hf_model_name"):
        return f"its text tower is {text['hf_model_name']}"
    vocabulary = text.get("vocab_size", CLIP_VOCABULARY)
    tokenizer = text.get("hf_tokenizer_name") or "openai/clip"
    if vocabulary != CLIP_VOCABULARY or not tokenizer.startswith("openai/clip"):
        return f"its tokenizer is not CLIP's ({text.get('hf_tokenizer_name') or 'unnamed'}, {vocabulary} entries)"
    pool = (text.get("pool_type", "argmax"), text.get("eos_id", 2))
    if text.get("embed_cls") or not (pool[0] == "argmax" or pool == ("eos", CLIP_END_OF_TEXT)):
        return "its text tower does not pool at the end-of-text token"
    if set(text.get("tokenizer_kwargs") or ()) - {"clean"}:
        return f"its tokenizer has settings of its own ({', '.join(text['tokenizer_kwargs'])})"
    return None


def build_clip(model_cfg: Mapping[str, Any], state: Mapping[str, Tensor], where: str) -> Any:
    """An ``open_clip.CLIP`` that holds the given weights (the tensors are taken over, not copied).

    The module is built on the meta device: no time and no random numbers are spent on weights that are replaced.

    Args:
        model_cfg: open_clip's configuration, already checked by ``check_architecture``.
        state: name -> weight of the whole model, open_clip's names.
        where: file or repository, for messages.

    Raises:
        ValueError: weights missing, left over or of another shape; a setting this open_clip does not know.
    """
    from open_clip.model import CLIP

    settings = {key: value for key, value in model_cfg.items() if key != "custom_text"}
    settings["vision_cfg"] = {**model_cfg["vision_cfg"], "output_tokens": False}
    try:
        with torch.device("meta"):
            model = CLIP(**settings)
    except (TypeError, AssertionError) as error:
        raise ValueError(f"{where}: this open_clip cannot build the configuration: {error}") from error
    # open_clip's CustomTextCLIP keeps the same text tower under "text."
    weights = {key.removeprefix("text."): value for key, value in state.items() if key not in _NOT_WEIGHTS}
    if "logit_scale" in weights:  # a number in some files, a vector of one in others
        weights["logit_scale"] = weights["logit_scale"].reshape(model.logit_scale.shape)
    _check_weights({key: value.shape for key, value in model.state_dict().items()}, weights, model, where)
    model.load_state_dict(weights, strict=True, assign=True)
    if model.attn_mask is not None:  # not in the state dict: text token i sees tokens 0..i
        size = model.context_length
        model.attn_mask = torch.full((size, size), float("-inf")).triu_(1)
    if any(tensor.is_meta for tensor in chain(model.parameters(), model.buffers())):
        raise RuntimeError(f"{where}: parts of the model were left without values")
    return model.eval()


def _check_weights(wanted: Mapping[str, torch.Size], found: Mapping[str, Tensor], model: Any, where: str) -> None:
    """Raise ValueError with the first differences between wanted and found weights."""
    key = "visual.positional_embedding"
    if key in found and found[key].shape != wanted[key]:
        rows, (height, width) = found[key].shape[0] - 1, model.visual.image_size
        patch, side = model.visual.patch_size[0], round(max(rows, 0) ** 0.5)
        raise ValueError(
            f"{where}: the configuration says {height}x{width} pixels in patches of {patch}, a position table of shape "
            f"{list(wanted[key])}, but the weights have {list(found[key].shape)}; "
            f"image_size {side * patch} would fit {side}x{side} patches"
        )
    problems = [f"no {k}" for k in wanted if k not in found]
    problems += [f"unknown {k}" for k in found if k not in wanted]
    problems += [
        f"{k} is {list(found[k].shape)}, not {list(shape)}"
        for k, shape in wanted.items()
        if k in found and found[k].shape != shape
    ]
    problems += [f"{k} is {v.dtype}" for k, v in found.items() if not v.is_floating_point()]
    if problems:
        more = f" and {len(problems) - 4} more" if len(problems) > 4 else ""
        raise ValueError(f"{where}: the weights do not fit the configuration: {', '.join(problems[:4])}{more}")


def make_tokenizer(text_cfg: Mapping[str, Any]) -> Callable[[list[str]], Tensor]:
    """CLIP's tokenizer for the configuration: a list of T strings -> [T, context] int64."""
    from open_clip.tokenizer import SimpleTokenizer, tokenize

    length = text_cfg.get("context_length", 77)
    cleaning = (text_cfg.get("tokenizer_kwargs") or {}).get("clean")
    if cleaning:
        tokenizer: Callable[[list[str]], Tensor] = SimpleTokenizer(context_length=length, clean=cleaning)
        return tokenizer
    return partial(tokenize, context_length=length)  # open_clip's shared one: its tables are read once


def check_layout(model: Any) -> None:
    """Raise UnsupportedBackbone unless a built ``model`` is a CLIP whose vision tower is a ViT with the CLIP layout."""
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
        raise UnsupportedBackbone(
            f"this model cannot be used: {wrong}; use a CLIP ViT, for example 'ViT-B-16-quickgelu/openai' or "
            "'ViT-L-14/laion2b_s32b_b82k'"
        )


def _plain_attention(block: Any) -> bool:
    """True where the block is the textbook pre-norm block that ``walk.forward_block`` computes."""
    inside = ("ln_q", "ln_k", "ln_inner")
    norms = [getattr(block.attn, name, None) for name in inside]
    norms += [getattr(block, "ln_attn", None), getattr(block.mlp, "ln", None)]
    scaled = getattr(block.attn, "scaled_cosine", False) or getattr(block.attn, "scale_heads", False)
    return not scaled and all(n is None or isinstance(n, nn.Identity) for n in norms)
