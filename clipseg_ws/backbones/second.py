"""Second models of transformers, which supply patch features: from their files to a ``FeatureBackbone``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clipseg_ws.backbones.errors import UnsupportedBackbone, WeightsNotFound
from clipseg_ws.backbones.features import FeatureBackbone
from clipseg_ws.backbones.hub import TIMEOUT, is_offline
from clipseg_ws.backbones.preprocessing import IMAGENET_MEAN, IMAGENET_STD, PROCESSOR_FILES, read_json
from clipseg_ws.door import user_path

_FILES = ["config.json", *PROCESSOR_FILES, "model.safetensors", "model.safetensors.index.json", "model-*.safetensors"]


def load_repo(repo: str, *, name: str, offline: bool = False) -> FeatureBackbone:
    """The model of ``hf:REPO``. Raises as ``repo_folder`` and ``read_folder``."""
    return read_folder(repo_folder(repo, offline=offline), name)


def load_local(path: str, *, name: str, offline: bool = False) -> FeatureBackbone:
    """The model of ``local-dir:PATH``. Raises as ``local_folder`` and ``read_folder``. ``offline`` changes nothing."""
    return read_folder(local_folder(path), name)


def read_folder(folder: Path, name: str) -> FeatureBackbone:
    """The model in a folder as ``save_pretrained`` wrote it, float32. ``name`` is what it was asked for by.

    Raises:
        UnsupportedBackbone: no vision transformer that transformers knows.
        ValueError: weights that are not safetensors or do not fit the configuration; mean or std no three numbers.
    """
    model = _load_model(folder, name)
    mean, std = _mean_std(folder)
    return FeatureBackbone(model, name=name, mean=mean, std=std)


def _load_model(folder: Path, name: str) -> Any:
    """The vision tower in a folder, read strictly from safetensors."""
    import torch
    from transformers import AutoModel

    try:
        model, report = AutoModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, trust_remote_code=False,
            attn_implementation="eager", dtype=torch.float32, output_loading_info=True,
        )  # fmt: skip
    except Exception as error:  # transformers' own kinds of error differ between releases
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise UnsupportedBackbone(
            f"features {name!r}: transformers cannot read a model with safetensors from {folder} ({reason}); a vision "
            "transformer is needed, for example 'hf:facebook/dinov2-base'"
        ) from error
    unused = {"pooler", "mask_token", "head"}  # what patch features never pass through
    missing = [key for key in report["missing_keys"] if not unused & set(key.split("."))]
    if missing:
        raise ValueError(
            f"features {name!r}: {len(missing)} weights are missing in {folder}, such as {sorted(missing)[0]!r}; they "
            "would be random. Fetch the model again"
        )
    return getattr(model, "vision_model", getattr(model, "vision_encoder", model))


def repo_folder(repo: str, *, offline: bool = False) -> Path:
    """The snapshot folder of a repository; cached files are used without asking the network."""
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(repo, allow_patterns=_FILES, local_files_only=True))
        if _complete(folder):
            return folder
    except Exception:  # not cached: fetched below
        pass
    if is_offline(offline):
        raise WeightsNotFound(
            f"the weights of 'hf:{repo}' are not on this machine and offline mode is on; run once without --offline"
        )
    try:
        folder = Path(snapshot_download(repo, allow_patterns=_FILES, etag_timeout=TIMEOUT))
    except Exception as error:  # the hub's and its HTTP library's errors differ between releases
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise WeightsNotFound(
            f"the weights of 'hf:{repo}' could not be fetched from the hub ({reason}); check name and connection "
            "(HTTPS_PROXY, HF_ENDPOINT), or accept the model's licence and log in with: hf auth login"
        ) from error
    if not _complete(folder):
        raise WeightsNotFound(f"'hf:{repo}' on the hub has no config.json with model.safetensors (or its shards)")
    return folder


def local_folder(path: str) -> Path:
    """A folder with a configuration and weights. Raises FileNotFoundError."""
    folder = user_path(path)
    if not folder.is_dir() or not _complete(folder):
        found = ", ".join(sorted(f.name for f in folder.iterdir())[:8]) if folder.is_dir() else "no such folder"
        raise FileNotFoundError(
            f"local-dir:{path}: {found or 'nothing there'}; expected is what transformers' save_pretrained writes: "
            "config.json, model.safetensors, preprocessor_config.json; or a hybrid model's folder and ':stem' behind it"
        )
    return folder


def _complete(folder: Path) -> bool:
    names = {f.name for f in folder.iterdir()}
    if "model.safetensors.index.json" in names and "model.safetensors" not in names:
        shards = set(read_json(folder / "model.safetensors.index.json").get("weight_map", {}).values())
        return "config.json" in names and bool(shards) and shards <= names
    return {"config.json", "model.safetensors"} <= names


def _mean_std(folder: Path) -> tuple[Sequence[float], Sequence[float]]:
    """Of the processor's file; ImageNet's, which the self-supervised models use, where the folder has none."""
    path = next((folder / name for name in PROCESSOR_FILES if (folder / name).is_file()), None)
    config = {} if path is None else read_json(path)
    config = config.get("image_processor", config)
    if not config.get("do_normalize", True):
        return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    mean, std = config.get("image_mean", IMAGENET_MEAN), config.get("image_std", IMAGENET_STD)
    if len(mean) != 3 or len(std) != 3 or not all(0 <= m <= 1 for m in mean) or not all(0 < s <= 1 for s in std):
        raise ValueError(f"{path}: mean {mean} and std {std}; three numbers each for RGB pixels in [0, 1] are expected")
    return mean, std
