"""From open_clip's model configuration and a state dict to a frozen-ready ``open_clip.CLIP``, or a clear refusal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from clipseg_ws.backbones.card import ModelCard
from clipseg_ws.backbones.errors import NEAREST, UnsupportedBackbone
from clipseg_ws.backbones.hybrid import empty_clip, empty_hybrid, is_hybrid, plain_configuration
from clipseg_ws.backbones.plain_clip import Undrawn
from clipseg_ws.door.errors import one_line

CLIP_VOCABULARY = 49408
CLIP_END_OF_TEXT = 49407
# entries of OpenAI's and of old open_clip's files that are no weights
NOT_WEIGHTS = {"input_resolution", "context_length", "vocab_size", "attn_mask"}
COUNTER = ".num_batches_tracked"  # of batch norms: steps of training, which change no answer; a file may leave them out


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A model as it came from disk, on the CPU.

    Attributes:
        model: of open_clip or transformers, as ``backbones.wrap`` takes it; weights in the dtype of the file.
        mean, std: RGB normalisation of pixels in [0, 1] that the weights were trained with.
        tokenizer: list of T strings -> [T, context] int64.
        card: what the model says of itself.
    """

    model: Any
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    tokenizer: Callable[[list[str]], Tensor]
    card: ModelCard = field(default_factory=ModelCard)

    def settings(self) -> dict[str, Any]:
        """All but the model, as ``backbones.wrap`` takes them."""
        return {key: value for key, value in vars(self).items() if key != "model"}


def build_clip(model_cfg: Mapping[str, Any], state: Mapping[str, Tensor], where: str) -> Any:
    """A CLIP in open_clip's layout that holds the given weights (the tensors are taken over, not copied).

    The module is built on the meta device: no time and no random numbers are spent on weights that are replaced. Where
    the configuration names a convolutional stem it stands in place of the patch embedding, see ``hybrid.py``.

    Args:
        model_cfg: open_clip's configuration, already checked by ``architecture.check_architecture``.
        state: name -> weight of the whole model, open_clip's names.
        where: file or repository, for messages.

    Raises:
        ValueError: weights missing, left over or of another shape; a setting this open_clip does not know.
    """
    settings = {key: value for key, value in model_cfg.items() if key != "custom_text"}
    settings["vision_cfg"] = {**model_cfg["vision_cfg"], "output_tokens": False}
    try:
        with torch.device("meta"), Undrawn():
            model = empty_hybrid(settings) if is_hybrid(settings) else empty_clip(plain_configuration(settings))
    except Exception as error:  # a value that no tower has fails in any way
        raise ValueError(f"{where}: this open_clip cannot build the configuration: {one_line(error, 200)}") from error
    # open_clip's CustomTextCLIP keeps the same text tower under "text."
    weights = {key.removeprefix("text."): value for key, value in state.items() if key not in NOT_WEIGHTS}
    if "logit_scale" in weights:  # a number in some files, a vector of one in others
        weights["logit_scale"] = weights["logit_scale"].reshape(model.logit_scale.shape)
    model.load_state_dict(fitting(model, weights, where), strict=True, assign=True)
    if model.attn_mask is not None:  # not in the state dict: text token i sees tokens 0..i
        size = model.context_length
        model.attn_mask = torch.full((size, size), float("-inf")).triu_(1)
    if any(tensor.is_meta for tensor in chain(model.parameters(), model.buffers())):
        raise RuntimeError(f"{where}: parts of the model were left without values")
    return model.eval()


def fitting(model: Any, state: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """The weights for a strict ``load_state_dict`` of ``model`` (on the meta device or not): counters are set to 0.

    Raises ValueError with the first differences between wanted and found weights.
    """
    wanted = {key: value.shape for key, value in model.state_dict().items()}
    counters = {key: torch.zeros(wanted[key], dtype=torch.int64) for key in wanted if key.endswith(COUNTER)}
    weights = {key: value for key, value in state.items() if key not in counters}
    _check_weights({key: shape for key, shape in wanted.items() if key not in counters}, weights, model, where)
    return weights | counters


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


def odd_layout(model: Any) -> str | None:
    """Why a built ``model`` is no CLIP whose vision tower is a ViT with CLIP's own layout, or None."""
    visual: Any = getattr(model, "visual", None)
    blocks = getattr(getattr(visual, "transformer", None), "resblocks", None)
    if blocks is None or not hasattr(visual, "class_embedding"):
        return f"its vision tower is a {type(visual).__name__}, not a CLIP vision transformer"
    if getattr(visual, "attn_pool", None) is not None or getattr(visual, "pool_type", "tok") != "tok":
        return "its vision tower pools by attention or average, not by the class token"
    if not isinstance(visual.proj, nn.Parameter):
        return "its vision tower has no linear projection"
    if any(getattr(block.attn, "in_proj_weight", None) is None for block in blocks):
        return "its attention has no joint in_proj_weight"
    if not plain_blocks(visual):
        return "its blocks use normalised, cosine or scaled attention or a norm inside the MLP"
    return None


def check_layout(model: Any) -> None:
    """Raise UnsupportedBackbone unless a built ``model`` is a CLIP whose vision tower is a ViT with the CLIP layout."""
    wrong = odd_layout(model)
    if wrong:
        raise UnsupportedBackbone(f"this model cannot be used: {wrong}; {NEAREST}")


def plain_blocks(visual: Any) -> bool:
    """True where all blocks are textbook pre-norm blocks, which ``walk.forward_block`` computes."""
    return all(_plain_attention(block) for block in visual.transformer.resblocks)


def _plain_attention(block: Any) -> bool:
    """True where the block is the textbook pre-norm block that ``walk.forward_block`` computes."""
    inside = ("ln_q", "ln_k", "ln_inner")
    norms = [getattr(block.attn, name, None) for name in inside]
    norms += [getattr(block, "ln_attn", None), getattr(block.mlp, "ln", None)]
    scaled = getattr(block.attn, "scaled_cosine", False) or getattr(block.attn, "scale_heads", False)
    return not scaled and all(n is None or isinstance(n, nn.Identity) for n in norms)
