"""How the vision models of transformers that differ from the rest take pictures; the kinds are ``FEATURE_KINDS``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from clipseg_ws.backbones.families import FEATURE_KINDS
from clipseg_ws.registry import Entry

Inputs = Callable[[Any, Tensor], Mapping[str, Any]]


def kind_of(model: Any) -> Entry | None:
    """The entry of ``FEATURE_KINDS`` whose name the model's ``model_type`` begins with; None: as most."""
    kind = str(getattr(getattr(model, "config", None), "model_type", ""))
    found = [entry for name, entry in FEATURE_KINDS.items() if kind.startswith(name)]
    return max(found, key=lambda entry: len(entry.name), default=None)


def one_size(model: Any) -> tuple[int, int] | None:
    """(height, width) of the only picture size that the model takes, or None."""
    entry = kind_of(model)
    if entry is None or not entry.about["one_size"]:
        return None
    if entry.name == "aimv2" and getattr(model.config, "is_native", False):
        return None
    side = model.config.image_size
    return (int(side), int(side)) if isinstance(side, int) else (int(side[0]), int(side[1]))


def inputs_of(model: Any) -> Inputs:
    """The function that makes the model's arguments of normalised pixels [B, 3, H, W]."""
    entry = kind_of(model)
    if entry is not None and entry.home:
        special: Inputs = entry.load()
        return special
    return _following if "interpolate_pos_encoding" in inspect.signature(model.forward).parameters else _plain


def _plain(model: Any, pixels: Tensor) -> Mapping[str, Any]:
    return {"pixel_values": pixels}


def _following(model: Any, pixels: Tensor) -> Mapping[str, Any]:
    """The position table follows the picture size only where it is asked to."""
    return {"pixel_values": pixels, "interpolate_pos_encoding": True}


def packed(model: Any, pixels: Tensor) -> Mapping[str, Any]:
    """SigLIP 2: patches [B, N, p p 3] with their grid."""
    p = int(model.config.patch_size)
    patches = naflex_patches(pixels, p)
    grid = torch.tensor([[pixels.shape[2] // p, pixels.shape[3] // p]] * len(pixels), device=pixels.device)
    mask = torch.ones(patches.shape[:2], dtype=torch.long, device=pixels.device)
    return {"pixel_values": patches, "pixel_attention_mask": mask, "spatial_shapes": grid}


def unmasked(model: Any, pixels: Tensor) -> Mapping[str, Any]:
    """ViT-MAE: every patch, in its order; by itself it hides three quarters and shuffles."""
    model.config.mask_ratio = 0.0
    count = (pixels.shape[2] // int(model.config.patch_size)) * (pixels.shape[3] // int(model.config.patch_size))
    order = torch.arange(count, device=pixels.device, dtype=torch.float32).expand(len(pixels), -1)
    return {"pixel_values": pixels, "noise": order, "interpolate_pos_encoding": True}


def naflex_patches(pixels: Tensor, p: int) -> Tensor:
    """[B, 3, H, W] -> [B, N, p p 3] as SigLIP 2's NaFlex towers take them: row by row, colours last."""
    x = F.unfold(pixels, p, stride=p).transpose(1, 2)  # [B, N, 3 p p], colours first
    return torch.unflatten(x, 2, (pixels.shape[1], p * p)).transpose(2, 3).flatten(2)
