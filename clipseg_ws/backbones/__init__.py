"""Frozen CLIP backbones by name. Importing this package imports no torch."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipseg_ws.backbones.errors import UnsupportedBackbone, WeightsNotFound

if TYPE_CHECKING:
    import torch

    from clipseg_ws.backbones.hub import CachedWeights
    from clipseg_ws.backbones.openclip import OpenClipBackbone

__all__ = [
    "DEFAULT_MODEL",
    "LOADERS",
    "OpenClipBackbone",
    "UnsupportedBackbone",
    "WeightsNotFound",
    "cached_weights",
    "download",
    "list_models",
    "load_backbone",
    "parse_name",
]

DEFAULT_MODEL = "ViT-B-16-quickgelu/openai"
# prefix of the name -> "module:function", called as function(rest of the name, offline=...) -> layout.Checkpoint
LOADERS = {
    "tag": "clipseg_ws.backbones.tags:load_tag",  # ARCH/PRETRAINED, written without a prefix
    "hf": "clipseg_ws.backbones.hub:load_repo",
    "local-dir": "clipseg_ws.backbones.folder:load_local",
    "nano": "clipseg_ws.backbones.folder:load_nano",
}
_FORMS = "'ARCH/PRETRAINED' (open_clip), 'hf:REPO', 'local-dir:PATH' or 'nano', for example 'ViT-B-16-quickgelu/openai'"


def load_backbone(
    name: str,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    offline: bool = False,
    position_interpolation: str = "bicubic",
) -> OpenClipBackbone:
    """A frozen CLIP ViT, ready on its device.

    Args:
        name: "ARCH/PRETRAINED" (open_clip's table), "hf:REPO" (transformers' or open_clip's files on the hub),
            "local-dir:PATH" (a folder in either format) or "nano" (embedded in the package).
        device: "auto", "cpu", "cuda", "cuda:N", "mps" or a torch.device.
        dtype: "auto" (bfloat16 where the hardware is fast at it, else float32), "float32", "bfloat16", "float16".
        offline: never use the network; so does HF_HUB_OFFLINE=1. Cached weights are used without it anyway.
        position_interpolation: see ``OpenClipBackbone``.

    Raises:
        UnsupportedBackbone: a tower that is no CLIP ViT (ResNet, ConvNeXt, EVA, SigLIP, CoCa, ...).
        WeightsNotFound: the weights are not here and cannot be fetched.
        FileNotFoundError: a local folder lacks files.
        ValueError: an unknown name (the nearest are listed), weights trained with the other GELU, preprocessing or
            weights that contradict the configuration, unsafe files, an unknown device or dtype.
    """
    import torch

    from clipseg_ws.backbones.device import choose_device, choose_dtype
    from clipseg_ws.backbones.openclip import OpenClipBackbone

    kind, rest = parse_name(name)
    target = choose_device(device)
    number = choose_dtype(dtype, target)
    module, function = LOADERS[kind].split(":")
    checkpoint = getattr(import_module(module), function)(rest, offline=offline)
    backbone = OpenClipBackbone(  # before the cast, so that the logit scale is read at full precision
        checkpoint.model,
        position_interpolation=position_interpolation,
        name=name,
        mean=checkpoint.mean,
        std=checkpoint.std,
        tokenizer=checkpoint.tokenizer,
        recommended=checkpoint.recommended,
        known_classes=checkpoint.known_classes,
    )
    backbone.model.to(target, torch.float32)
    if number != torch.float32:
        _ = backbone.weights_sha256  # before the cast: the same weights have one name in every dtype
        backbone.visual.to(number)  # names are encoded once and cached: the text tower keeps its precision
    return backbone


def parse_name(name: str) -> tuple[str, str]:
    """A model name -> (key of ``LOADERS``, the rest). Raises ValueError for an unknown prefix or an empty name."""
    prefix, colon, rest = name.partition(":")
    if name == "nano":
        return "nano", ""
    if name and not colon:
        return "tag", name
    if prefix in ("hf", "local-dir") and rest:
        return prefix, rest
    raise ValueError(f"model name {name!r} is not understood; it is one of {_FORMS}")


def list_models() -> list[str]:
    """Every name that needs no path: "nano" and the usable "ARCH/PRETRAINED" of the installed open_clip."""
    from clipseg_ws.backbones.tags import supported_tags

    return ["nano", *(tag.name for tag in supported_tags())]


def download(name: str) -> list[Path]:
    """Fetch the weights of a model into the hub's cache, or bring them up to date; the files or folder they are in.

    Raises:
        WeightsNotFound: the hub cannot be reached, or has no such model.
        ValueError: an unknown name, a model that cannot be used, or a ``local-dir:`` name (nothing to fetch).
    """
    from clipseg_ws.backbones import folder, hub, tags

    kind, rest = parse_name(name)
    if kind == "tag":
        return [hub.tag_file(tags.resolve_tag(rest), refresh=True)]
    if kind == "hf":
        return [hub.repo_folder(rest, refresh=True)]
    if kind == "nano":
        return [folder.find_weights(folder.NANO)]
    raise ValueError(f"{name!r} is on this machine already; 'ARCH/PRETRAINED' and 'hf:REPO' can be downloaded")


def cached_weights() -> list[CachedWeights]:
    """Downloaded CLIP weights as (name, path, size in bytes), sorted by name."""
    from clipseg_ws.backbones import hub

    return hub.cached_weights()


def __getattr__(attribute: str) -> Any:
    if attribute == "OpenClipBackbone":
        from clipseg_ws.backbones.openclip import OpenClipBackbone

        return OpenClipBackbone
    raise AttributeError(f"module {__name__!r} has no attribute {attribute!r}")
