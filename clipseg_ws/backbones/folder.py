"""Models in a folder: open_clip's format and transformers' format, and the embedded ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clipseg_ws.backbones.architecture import check_architecture
from clipseg_ws.backbones.card import ModelCard, read_card
from clipseg_ws.backbones.convert import convert_clip
from clipseg_ws.backbones.custom import build_model
from clipseg_ws.backbones.errors import UnsupportedBackbone
from clipseg_ws.backbones.families import SPEAKERS
from clipseg_ws.backbones.layout import Checkpoint
from clipseg_ws.backbones.preprocessing import (
    CLIP_MEAN,
    CLIP_STD,
    check_tokenizer,
    from_open_clip,
    from_transformers,
    read_json,
)
from clipseg_ws.backbones.weights import PICKLED, read_weights
from clipseg_ws.backbones.words import folder_tokenizer, make_tokenizer
from clipseg_ws.door.errors import InputError, reason
from clipseg_ws.door.plain import user_path

OPEN_CLIP_CONFIG = "open_clip_config.json"
TRANSFORMERS_CONFIG = "config.json"
OPEN_CLIP_WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "nano.safetensors",
)
TRANSFORMERS_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
EMBEDDED = Path(__file__).resolve().parents[1] / "embedded"
_TREE = f"""one of
  open_clip's format: {OPEN_CLIP_CONFIG} + open_clip_model.safetensors (or open_clip_pytorch_model.bin, or one *.pt)
  transformers' format: {TRANSFORMERS_CONFIG} + model.safetensors (or model.safetensors.index.json and its shards)
                        + preprocessor_config.json"""


def load_local(path: str, *, offline: bool = False) -> Checkpoint:
    """The model of ``local-dir:PATH``. ``offline``: see ``load_folder``.

    Raises:
        FileNotFoundError: no such folder, or files are missing in it (the message shows the expected files).
        UnsupportedBackbone: the model is no CLIP ViT.
        ValueError: damaged or unsafe files, weights or preprocessing that contradict the configuration.
    """
    return load_folder(_local_folder(path), offline=offline)


def _local_folder(path: str) -> Path:
    folder = user_path(path)
    if folder.is_file():
        raise FileNotFoundError(f"local-dir:{path} is a file; name the folder that holds it: {_TREE}")
    if not path or not folder.is_dir():
        raise FileNotFoundError(f"local-dir:{path} is no folder; expected is a folder with {_TREE}")
    return folder


def load_embedded(name: str, *, offline: bool = False) -> Checkpoint:
    """The embedded model of that name. Raises as ``embedded_files``. ``offline`` changes nothing."""
    (weights,) = embedded_files(name)
    return _load_open_clip(weights.parent, weights, offline=True)


def embedded_files(name: str) -> list[Path]:
    """The weights of an embedded model. Raises FileNotFoundError where the package came without its data files."""
    folder = EMBEDDED / name
    weights = folder / f"{name}.safetensors"
    lacking = [file.name for file in (folder / OPEN_CLIP_CONFIG, weights) if not file.is_file()]
    if lacking:
        raise FileNotFoundError(
            f"the embedded model {name!r} cannot be loaded: {folder} lacks {', '.join(lacking)}; install clipseg_ws "
            "again, with its data files"
        )
    return [weights]


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


def find_weights(folder: Path) -> Path:
    """The weight file that ``load_folder`` reads. Raises FileNotFoundError with the expected files, ValueError where
    several could be meant."""
    kinds = [name for name in (OPEN_CLIP_CONFIG, TRANSFORMERS_CONFIG) if (folder / name).is_file()]
    names: tuple[str, ...] = ()
    if OPEN_CLIP_CONFIG in kinds:
        names += OPEN_CLIP_WEIGHTS
    if kinds:
        names += TRANSFORMERS_WEIGHTS
    for name in names:
        if (folder / name).is_file():
            return folder / name
    others = sorted(f for f in folder.iterdir() if f.suffix in (".safetensors", *PICKLED))
    if OPEN_CLIP_CONFIG in kinds and len(others) == 1:
        return others[0]
    if OPEN_CLIP_CONFIG in kinds and others:
        listed = ", ".join(f.name for f in others)
        raise ValueError(f"{folder} holds several weight files ({listed}); name the right one {OPEN_CLIP_WEIGHTS[0]}")
    found = ", ".join(sorted(f.name for f in folder.iterdir())[:8]) or "nothing"
    raise FileNotFoundError(f"{folder} holds {found}; expected is {_TREE}")


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


def local_card(path: str) -> ModelCard:
    """The card of ``local-dir:PATH``. Raises FileNotFoundError for no folder, ValueError as ``folder_card``."""
    return folder_card(_local_folder(path))


def embedded_card(name: str) -> ModelCard:
    """The card of an embedded model. Raises as ``embedded_files`` where it is not there."""
    if not (EMBEDDED / name / OPEN_CLIP_CONFIG).is_file():
        embedded_files(name)
    return folder_card(EMBEDDED / name)


def folder_card(folder: Path) -> ModelCard:
    """What the model in a folder says of itself; nothing where there is no configuration of open_clip's.

    Raises ValueError for a part "clipseg_ws" that is not as ``card.read_card`` reads it.
    """
    file = folder / OPEN_CLIP_CONFIG
    return read_card(read_json(file).get("clipseg_ws"), str(file)) if file.is_file() else ModelCard()


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
