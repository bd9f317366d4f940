"""From open_clip's configuration and weights to a model: CLIP itself, towers of timm and transformers, CoCa."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from clipseg_ws.backbones.layout import NOT_WEIGHTS, build_clip, fitting
from clipseg_ws.backbones.words import text_configuration
from clipseg_ws.door.errors import one_line

_POSITION_IDS = ".position_ids"  # a counter that old checkpoints stored


def build_model(
    model_cfg: Mapping[str, Any], state: Mapping[str, Tensor], where: str, *, offline: bool = False
) -> Any:
    """open_clip's model of a checked configuration with the given weights.

    Raises as ``layout.build_clip`` and ``build_custom``.
    """
    if is_custom(model_cfg):
        return build_custom(model_cfg, state, where, offline)
    return build_clip(model_cfg, state, where)


def is_custom(model_cfg: Mapping[str, Any]) -> bool:
    """Whether a tower is timm's or transformers', or a decoder of texts hangs on it (CoCa)."""
    foreign = model_cfg["vision_cfg"].get("timm_model_name") or model_cfg["text_cfg"].get("hf_model_name")
    return bool(foreign) or "multimodal_cfg" in model_cfg


def build_custom(model_cfg: Mapping[str, Any], state: Mapping[str, Tensor], where: str, offline: bool = False) -> Any:
    """An ``open_clip.CustomTextCLIP`` (or ``CoCa``) that holds the given weights, see ``layout.build_clip``.

    It is built on the meta device where that is possible: text towers of transformers need real memory.

    Raises:
        ValueError: weights missing, left over or of another shape; a setting this open_clip does not know.
        WeightsNotFound: the configuration of the text tower is not here and cannot be fetched.
    """
    model = empty_model(model_cfg, where, offline=offline)
    weights = fitting(model, _open_clip_names(model, state), where)
    model.load_state_dict(weights, strict=True, assign=True)
    fill_buffers(model)
    if any(tensor.is_meta for tensor in chain(model.parameters(), model.buffers())):
        model = empty_model(model_cfg, where, device="cpu", offline=offline)
        model.load_state_dict(weights, strict=True)
    return model.eval()


def empty_model(model_cfg: Mapping[str, Any], where: str, *, device: str = "meta", offline: bool = False) -> Any:
    """The modules, on the meta device or with random weights. Raises ValueError, WeightsNotFound."""
    from open_clip.coca_model import CoCa
    from open_clip.model import CustomTextCLIP

    settings = {key: value for key, value in model_cfg.items() if key != "custom_text"}
    text = dict(settings["text_cfg"])
    if text.get("hf_model_name"):  # the weights come with the rest: only its configuration is read
        folder = text_configuration(text["hf_model_name"], offline=offline)
        text |= {"hf_model_name": str(folder), "hf_model_pretrained": False}
        device = "cpu"
    vision = dict(settings["vision_cfg"])
    if vision.get("timm_model_name"):
        vision["timm_model_pretrained"] = False
    settings |= {"text_cfg": text, "vision_cfg": vision}
    try:
        with torch.device(device):
            return (CoCa if "multimodal_cfg" in settings else CustomTextCLIP)(**settings)
    except Exception as error:  # a value that no tower has fails in any way
        raise ValueError(f"{where}: this open_clip cannot build the configuration: {one_line(error, 200)}") from error


def fill_buffers(model: Any) -> None:
    """Give what is in no weight file its value again: masks of text towers, timm's rotary tables."""
    for module in model.modules():
        if hasattr(module, "init_non_persistent_buffers") and any(b.is_meta for b in module.buffers(recurse=False)):
            for name, buffer in list(module.named_buffers(recurse=False)):
                if buffer.is_meta:
                    module._buffers[name] = torch.empty_like(buffer, device="cpu")
            module.init_non_persistent_buffers()
        mask = getattr(module, "attn_mask", None)
        if isinstance(mask, Tensor) and mask.is_meta:
            module._buffers["attn_mask"] = torch.full(mask.shape, float("-inf")).triu_(1)


def _open_clip_names(model: Any, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights as published -> open_clip's names: Apple's, older text towers, scales of another shape."""
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    weights = {key: value for key, value in state.items() if key not in NOT_WEIGHTS}
    weights = dict(convert_state_dict(model, weights))
    if "positional_embedding" in weights:
        weights = dict(convert_to_custom_text_state_dict(weights))
    if getattr(model, "logit_bias", None) is not None:
        weights.setdefault("logit_bias", torch.zeros(()))
    for key in ("logit_scale", "logit_bias"):
        if key in weights and getattr(model, key, None) is not None:
            weights[key] = weights[key].reshape(getattr(model, key).shape)
    known = model.state_dict()
    return {key: value for key, value in weights.items() if key in known or not key.endswith(_POSITION_IDS)}
