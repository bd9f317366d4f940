"""Models in a folder: open_clip's format and transformers' format, and the embedded ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clipseg_ws.backbones.architecture import check_architecture
from clipseg_ws.backbones.convert import convert_clip
from clipseg_ws.backbones.custom import build_model
from clipseg_ws.backbones.errors import UnsupportedBackbone
from clipseg_ws.backbones.families import SPEAKERS
from clipseg_ws.backbones.layout import Checkpoint
from clipseg_ws.backbones.places import (
    OPEN_CLIP_CONFIG,
    TRANSFORMERS_CONFIG,
    TRANSFORMERS_WEIGHTS,
    embedded_files,
    find_weights,
    folder_card,
    local_folder,
)
from clipseg_ws.backbones.preprocessing import (
    CLIP_MEAN,
    CLIP_STD,
    check_tokenizer,
    from_open_clip,
    from_transformers,
    read_json,
)
from clipseg_ws.backbones.weights import read_weights
from clipseg_ws.backbones.words import folder_tokenizer, make_tokenizer
from clipseg_ws.door.errors import InputError, reason


def load_local(path: str, *, offline: bool = False) -> Checkpoint:
    """The model of ``local-dir:PATH``. ``offline``: see ``load_folder``.

    Raises:
        FileNotFoundError: no such folder, or files are missing in it (the message shows the expected files).
        UnsupportedBackbone: the model is no CLIP ViT.
        ValueError: damaged or unsafe files, weights or preprocessing that contradict the configuration.
    """
    return load_folder(local_folder(path), offline=offline)


def load_embedded(name: str, *, offline: bool = False) -> Checkpoint:
    """The embedded model of that name. Raises as ``embedded_files``. ``offline`` changes nothing."""
    (weights,) = embedded_files(name)
    return _load_open_clip(weights.parent, weights, offline=True)


def load_folder(folder: Path, *, offline: bool = False) -> Checkpoint:
    """A folder in either format; where it holds both, open_clip's is read. Raises as ``load_local``.

    ``offline``: a tokenizer that open_clip's configuration only names is not fetched.
    """
    weights = find_weights(folder)
    try:
        if weights.name in TRANSFORMERS_WEIGHTS and not _is_open_clip_only(folder):
            return _load_transformers(folder, weights)
        return _load_open_clip(folder, weights, offline)
    except (ValueError, OSError, ImportError):
        raise
    except Exception as error:  # what a configuration that nobody meant makes of the libraries' code
        raise InputError(f"it makes no model: {reason(error)}", file=folder, advice="fetch it again") from error


def check_folder_config(folder: Path) -> None:
    """Judge a folder by its configuration alone, before large files are fetched. Raises UnsupportedBackbone."""
    if (folder / OPEN_CLIP_CONFIG).is_file():
        check_architecture(_open_clip_model_cfg(folder), str(folder))
    elif (folder / TRANSFORMERS_CONFIG).is_file():
        _kind(folder)


def _is_open_clip_only(folder: Path) -> bool:
    """True where ``model.safetensors`` beside open_clip's configuration can only be open_clip's."""
    return (folder / OPEN_CLIP_CONFIG).is_file() and not (folder / TRANSFORMERS_CONFIG).is_file()


def _open_clip_model_cfg(folder: Path) -> dict[str, Any]:
    content = read_json(folder / OPEN_CLIP_CONFIG)
    model_cfg: dict[str, Any] = content.get("model_cfg", content)
    return model_cfg


def _load_open_clip(folder: Path, weights: Path, offline: bool) -> Checkpoint:
    model_cfg = _open_clip_model_cfg(folder)
    check_architecture(model_cfg, str(folder))
    text = model_cfg["text_cfg"]
    if not (text.get("hf_tokenizer_name") or text.get("hf_model_name")):
        check_tokenizer(folder)
    mean, std = from_open_clip(read_json(folder / OPEN_CLIP_CONFIG), model_cfg, folder / OPEN_CLIP_CONFIG)
    card = folder_card(folder)
    model = build_model(model_cfg, read_weights(weights), str(weights), offline=offline)
    return Checkpoint(model, mean, std, make_tokenizer(text, folder=folder, offline=offline), card)


def _kind(folder: Path) -> str:
    """``model_type`` of a folder in transformers' format. Raises UnsupportedBackbone for one that does not speak."""
    kind = read_json(folder / TRANSFORMERS_CONFIG).get("model_type")
    if kind not in SPEAKERS:
        raise UnsupportedBackbone(
            f"{folder / TRANSFORMERS_CONFIG} describes a model of type {kind!r}; text-aligned models of these kinds "
            f"are supported: {', '.join(SPEAKERS)}, for example hf:openai/clip-vit-base-patch16 or "
            "hf:google/siglip2-base-patch16-224; a model that sees only may be a second one (--features)"
        )
    return str(kind)


def _load_transformers(folder: Path, weights: Path) -> Checkpoint:
    kind = _kind(folder)
    if kind != "clip":
        return _load_speaker(folder, kind)
    config = _clip_config(folder)
    check_tokenizer(folder)
    mean, std = from_transformers(folder, config.vision_config.image_size)
    model = convert_clip(config, read_weights(weights), str(weights))
    return Checkpoint(model, mean, std, make_tokenizer({"context_length": model.context_length}))


def _load_speaker(folder: Path, kind: str) -> Checkpoint:
    from clipseg_ws.backbones.transformers_tower import HALF, read_speaker

    tokenizer = folder_tokenizer(folder, SPEAKERS[kind].about["context"])
    model = read_speaker(folder, kind)
    default = (HALF, HALF) if kind.startswith("siglip") else (CLIP_MEAN, CLIP_STD)
    size = getattr(model.config.vision_config, "image_size", None) if kind != "siglip2" else None
    mean, std = from_transformers(folder, size, default)
    return Checkpoint(model, mean, std, tokenizer)


def _clip_config(folder: Path) -> Any:
    """The ``CLIPConfig`` of a folder."""
    from transformers import CLIPConfig

    try:
        return CLIPConfig.from_dict(read_json(folder / TRANSFORMERS_CONFIG))
    except Exception as error:  # transformers' own kinds of error differ between releases
        raise ValueError(f"{folder / TRANSFORMERS_CONFIG} is no CLIP configuration: {error}") from error
