"""Frozen text-aligned backbones by name. Importing this package imports no torch.

The room from the ground up; each file knows only those in front of it:

    protocol, families, errors      what a backbone is, the tables of names, what can go wrong
    card                            what a model says of itself: settings that suit it, names that it knows
    hybrid                          a convolutional stem in front of a ViT
    attention, last_block, walk     one block: its attention, its weights as a value, open_clip's modules
    positions, device               a table of positions on another grid; where weights live and in which dtype
    plain_clip, efficientnet        CLIP and stems module by module, without importing open_clip and timm
    layout, preprocessing, weights  from a configuration and files to a model, or a refusal
    architecture, custom, words     the same of every other ViT: judged, built, its tokenizer
    tower, tower_backbone           any ViT piece by piece; the adapters are own_tower, timm_tower, transformers_tower
    openclip, convert, features     the backbones: CLIP's layout, transformers' CLIP in it, patches without text
    stem_features                   a hybrid's stem alone, as a second model
    wrap_openclip, feature_kinds    which of them a model of open_clip gets; vision models that take pictures otherwise
    places, remembered, known       where files of models lie; digests of files that have not changed
    hub, folder, repos, tags        where weights are: the hub and its cache, a folder, a repository, open_clip's table
    cached, choice, second, blocks  what is in the cache; which model is taken unnamed; second models; attention
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipseg_ws.backbones.card import ModelCard
from clipseg_ws.backbones.choice import choose_model
from clipseg_ws.backbones.errors import UnsupportedBackbone, WeightsNotFound
from clipseg_ws.backbones.families import (
    DEFAULT_MODEL,
    FAMILIES,
    FEATURES,
    MODELS,
    embedded,
    forms,
    further,
    parse_name,
)
from clipseg_ws.backbones.known import know_again, known_digest, model_key
from clipseg_ws.backbones.protocol import Backbone, PictureModel

if TYPE_CHECKING:
    import torch

    from clipseg_ws.backbones.cached import CachedWeights

__all__ = [
    "DEFAULT_MODEL",
    "FAMILIES",
    "FEATURES",
    "MODELS",
    "Backbone",
    "ModelCard",
    "OpenClipBackbone",
    "PictureModel",
    "UnsupportedBackbone",
    "WeightsNotFound",
    "cached_weights",
    "choose_model",
    "download",
    "known_digest",
    "list_models",
    "load_backbone",
    "load_features",
    "model_card",
    "parse_name",
    "wrap",
]


def load_backbone(
    name: str,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    offline: bool = False,
    position_interpolation: str = "bicubic",
) -> Backbone:
    """A frozen text-aligned ViT, ready on its device.

    Args:
        name: "ARCH/PRETRAINED" (open_clip's table), "hf:REPO" (transformers' or open_clip's files on the hub),
            "local-dir:PATH" (a folder in either format) or "nano", "photo" (embedded in the package); see
            ``FAMILIES``.
        device: "auto", "cpu", "cuda", "cuda:N", "mps" or a torch.device.
        dtype: "auto" (bfloat16 where the hardware is fast at it, else float32), "float32", "bfloat16", "float16".
        offline: never use the network; so does HF_HUB_OFFLINE=1. Cached weights are used without it anyway.
        position_interpolation: see ``positions.positions``.

    Raises:
        UnsupportedBackbone: a tower without attention between patches (ResNet, ConvNeXt, FastViT), or another model.
        WeightsNotFound: the weights are not here and cannot be fetched.
        FileNotFoundError: a local folder lacks files.
        ValueError: an unknown name (the nearest are listed), weights trained with the other GELU, preprocessing or
            weights that contradict the configuration, unsafe files, an unknown device or dtype.
    """
    from clipseg_ws.backbones.device import choose_device, choose_dtype

    entry, rest = parse_name(name)
    target = choose_device(device)
    number = choose_dtype(dtype, target)
    key = model_key(name)
    checkpoint = entry.load()(rest, offline=offline)
    backbone = wrap(  # before the cast, so that the logit scale is read at full precision
        checkpoint.model, position_interpolation=position_interpolation, name=name, **checkpoint.settings()
    )
    know_again(name, key, backbone)
    backbone.place(target, number)
    return backbone


def wrap(model: Any, **settings: Any) -> Backbone:
    """The ``Backbone`` of a model that open_clip or transformers has built, fine-tuned or not, where it is.

        model = open_clip.create_model("ViT-B-16-quickgelu", pretrained="openai")
        segment = Segmenter(backbone=wrap(model))

    Args:
        model: see ``MODELS``. It is put into eval mode and frozen; weights are shared where the layout allows.
        settings: ``name``, ``mean``, ``std``, ``tokenizer``, ``position_interpolation`` and ``card`` (a ``ModelCard``:
            recommended settings, known names) as ``openclip.OpenClipBackbone`` takes them; by default mean and std are
            what open_clip noted in the model, else CLIP's.

    Raises:
        UnsupportedBackbone: a class that no family reads, a tower without attention between patches, or a text tower
            whose tokenizer is not CLIP's where none is given.
    """
    from clipseg_ws.backbones.plain_clip import PlainClip

    if isinstance(model, PlainClip):
        from clipseg_ws.backbones.wrap_openclip import wrap_open_clip

        return wrap_open_clip(model, **settings)
    for kind in type(model).__mro__:
        entry = MODELS.get(f"{kind.__module__.partition('.')[0]}.{kind.__qualname__}")
        if entry is not None:
            backbone: Backbone = entry.load()(model, **settings)
            return backbone
    kind = type(model)
    raise UnsupportedBackbone(
        f"a {kind.__module__}.{kind.__qualname__} cannot be used: its patches are not known to speak text; what can be "
        f"is {', '.join(MODELS)} with a ViT, for example "
        "wrap(open_clip.create_model('ViT-B-16-quickgelu', pretrained='openai'))"
    )


def load_features(
    name: str, device: str | torch.device = "auto", dtype: str | torch.dtype = "auto", offline: bool = False
) -> PictureModel:
    """A frozen second model by name, which supplies patch features only.

    Args:
        name: "hf:REPO" (transformers' files on the hub), "local-dir:PATH" (what ``save_pretrained`` wrote) or
            "MODEL:stem" (the convolutional stem of a hybrid model, "photo:stem"), see ``FEATURES``. Of a model with two
            towers (CLIP, SigLIP, SAM) the vision tower is taken.
        device, dtype, offline: as for ``load_backbone``.

    Raises:
        WeightsNotFound: the files are not here and cannot be fetched. FileNotFoundError: a folder lacks files.
        UnsupportedBackbone: no vision transformer that transformers knows, or no stem.
        ValueError: an unknown form of name, weights that are not safetensors or do not fit the configuration.
    """
    from clipseg_ws.backbones.device import choose_device, choose_dtype

    target = choose_device(device)
    number = choose_dtype(dtype, target)
    entry, rest = parse_name(name, FEATURES, "features")
    model: PictureModel = entry.load()(rest, name=name, offline=offline)
    model.place(target, number)
    return model


def model_card(name: str) -> ModelCard:
    """What a model says of itself, read without its weights and without the network; empty where it says nothing.

    Raises ValueError for an unknown name or a card that cannot be, FileNotFoundError as ``load_backbone``.
    """
    from clipseg_ws.backbones import places

    entry, rest = parse_name(name)
    read = places.embedded_card if entry.name in embedded() else further(entry, "card")
    card: ModelCard = ModelCard() if read is None else read(rest)
    return card


def list_models() -> list[str]:
    """Every name that needs no path: the embedded models, and what open_clip's table has that can be used."""
    listers = [lister for entry in FAMILIES.values() if (lister := further(entry, "names"))]
    return [*embedded(), *(name for lister in listers for name in lister())]


def download(name: str) -> list[Path]:
    """Fetch the weights of a model into the hub's cache, or bring them up to date; the files or folder they are in.

    Raises:
        WeightsNotFound: the hub cannot be reached, or has no such model.
        ValueError: an unknown name, a model that cannot be used, or a ``local-dir:`` name (nothing to fetch).
    """
    entry, rest = parse_name(name)
    fetch = further(entry, "fetch")
    if fetch is None:
        raise ValueError(f"{name!r} is on this machine already; {forms(without=entry.name)} can be downloaded")
    files: list[Path] = fetch(rest)
    return files


def cached_weights() -> list[CachedWeights]:
    """Downloaded CLIP weights as (name, path, size in bytes), sorted by name."""
    from clipseg_ws.backbones import cached

    return cached.cached_weights()


def __getattr__(attribute: str) -> Any:
    if attribute == "OpenClipBackbone":
        from clipseg_ws.backbones.openclip import OpenClipBackbone

        return OpenClipBackbone
    raise AttributeError(f"module {__name__!r} has no attribute {attribute!r}")
