"""Weights on the model hub and in its cache on this machine. Cached files are used without asking the network.

Every answer that needs the network is asked for once, with a time limit, before anything is downloaded: without a
connection that fails within seconds, where the hub's own downloads retry for half a minute.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from clipseg_ws.backbones.errors import UnsupportedBackbone, WeightsNotFound
from clipseg_ws.backbones.folder import (
    OPEN_CLIP_CONFIG,
    OPEN_CLIP_WEIGHTS,
    TRANSFORMERS_CONFIG,
    TRANSFORMERS_WEIGHTS,
    check_folder_config,
    find_weights,
    load_folder,
)
from clipseg_ws.backbones.layout import Checkpoint
from clipseg_ws.backbones.preprocessing import PROCESSOR_FILES, TOKENIZER_FILES
from clipseg_ws.backbones.tags import Tag, supported_tags

TIMEOUT = 10.0  # seconds for the first answer of the hub
_CONFIGS = (OPEN_CLIP_CONFIG, TRANSFORMERS_CONFIG, *PROCESSOR_FILES, *TOKENIZER_FILES)
_SHARD = re.compile(r"(model|pytorch_model)-\d+-of-\d+\.(safetensors|bin)")


class CachedWeights(NamedTuple):
    """Weights in the hub's cache: the name to load them by, the file (or folder of shards), its size in bytes."""

    name: str
    path: Path
    size: int


def is_offline(offline: bool = False) -> bool:
    """True where the network must not be used: asked for, or HF_HUB_OFFLINE=1 in the environment."""
    from huggingface_hub import constants

    asked = os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")
    return offline or asked or bool(constants.HF_HUB_OFFLINE)


def tag_file(tag: Tag, *, offline: bool = False, refresh: bool = False) -> Path:
    """The weight file of an open_clip tag, downloaded where it is not cached (``refresh`` asks the hub anyway).

    Raises:
        WeightsNotFound: not cached and offline, or the hub cannot be reached or has no such file.
    """
    cached = next((path for file in tag.files if (path := _cached_file(tag.repo, file))), None)
    if cached and (not refresh or is_offline(offline)):
        return cached
    _require_network(tag.name, tag.repo, tag.files, offline)
    present = _list_files(tag.name, tag.repo)
    wanted = next((file for file in tag.files if file in present), None)
    if wanted is None:
        raise WeightsNotFound(f"{tag.name!r}: {tag.repo} on the hub has none of {', '.join(tag.files)}")
    return _fetch(tag.name, tag.repo, [wanted]) / wanted


def load_repo(repo: str, *, offline: bool = False) -> Checkpoint:
    """The model of ``hf:REPO``. Raises as ``repo_folder`` and ``folder.load_folder``."""
    return load_folder(repo_folder(repo, offline=offline))


def repo_folder(repo: str, *, offline: bool = False, refresh: bool = False) -> Path:
    """The cached snapshot of a repository with a CLIP in either format, downloaded where it is not complete.

    Raises:
        WeightsNotFound: not cached and offline, or the hub cannot be reached, or there is no such repository.
        UnsupportedBackbone: the repository's configuration is no CLIP ViT's (found before the weights are fetched).
    """
    name = f"hf:{repo}"
    folder = _cached_snapshot(repo)
    if folder and (not refresh or is_offline(offline)):
        return folder
    _require_network(name, repo, (OPEN_CLIP_CONFIG, TRANSFORMERS_CONFIG, "and weights"), offline)
    present = _list_files(name, repo)
    check_folder_config(_fetch(name, repo, [file for file in _CONFIGS if file in present]))
    return _fetch(name, repo, _weight_files(name, repo, present))


def cached_weights() -> list[CachedWeights]:
    """Weights in the hub's cache that ``load_backbone`` reads without the network, by name; empty without a cache."""
    from huggingface_hub import CacheNotFound, constants, scan_cache_dir

    found = []
    for tag in supported_tags():
        path = next((path for file in tag.files if (path := _cached_file(tag.repo, file))), None)
        if path:
            found.append(CachedWeights(tag.name, path, path.stat().st_size))
    try:
        repos = [repo.repo_id for repo in scan_cache_dir(constants.HF_HUB_CACHE).repos if repo.repo_type == "model"]
    except (CacheNotFound, ValueError):
        repos = []
    for repo in repos:
        folder = _cached_snapshot(repo)
        if folder and not any(folder in entry.path.parents for entry in found):
            weights = find_weights(folder)
            shards = [f for f in folder.iterdir() if _SHARD.fullmatch(f.name)]
            parts = shards if weights.name.endswith(".index.json") else [weights]
            where = folder if weights.name.endswith(".index.json") else weights
            found.append(CachedWeights(f"hf:{repo}", where, sum(part.stat().st_size for part in parts)))
    return sorted(found)


def _cached_file(repo: str, file: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(repo, file)
    return Path(path) if isinstance(path, str) and Path(path).is_file() else None


def _cached_snapshot(repo: str) -> Path | None:
    """The snapshot folder of a supported model whose files are all there, or None."""
    with _hub_errors(f"hf:{repo}", repo):
        config = _cached_file(repo, OPEN_CLIP_CONFIG) or _cached_file(repo, TRANSFORMERS_CONFIG)
    if config is None:
        return None
    try:
        check_folder_config(config.parent)
        weights = find_weights(config.parent)
    except (UnsupportedBackbone, FileNotFoundError, ValueError):
        return None
    if weights.name.endswith(".index.json"):
        shards = {f.name for f in config.parent.iterdir() if _SHARD.fullmatch(f.name)}
        count = {int(name.rpartition("-of-")[2].partition(".")[0]) for name in shards}
        return config.parent if count == {len(shards)} else None
    return config.parent


def _require_network(name: str, repo: str, files: Sequence[str], offline: bool) -> None:
    if is_offline(offline):
        raise WeightsNotFound(
            f"the weights of {name!r} are not on this machine and offline mode is on: {_looked_for(repo, files)}. "
            f"While online, run: clipseg-ws download {name}   (the embedded model 'nano' needs no download)"
        )


def _looked_for(repo: str, files: Sequence[str]) -> str:
    from huggingface_hub import constants

    return f"looked for {', '.join(files)} of {repo} in {constants.HF_HUB_CACHE}"


def _list_files(name: str, repo: str) -> list[str]:
    """Names of all files of the repository, from the hub, in one request with a time limit."""
    from huggingface_hub import HfApi

    with _hub_errors(name, repo):
        return [entry.rfilename for entry in HfApi().model_info(repo, timeout=TIMEOUT).siblings or []]


def _fetch(name: str, repo: str, files: Sequence[str]) -> Path:
    """Download the named files where they are not cached; the snapshot folder that holds them."""
    from huggingface_hub import snapshot_download

    with _hub_errors(name, repo):
        return Path(snapshot_download(repo, allow_patterns=list(files)))


def _weight_files(name: str, repo: str, present: Sequence[str]) -> list[str]:
    """The weights to download: one file, or an index with its shards."""
    candidates = (OPEN_CLIP_WEIGHTS if OPEN_CLIP_CONFIG in present else ()) + TRANSFORMERS_WEIGHTS
    chosen = next((file for file in candidates if file in present), None)
    if chosen is None:
        raise WeightsNotFound(f"{name!r}: the repository has none of {', '.join(candidates)}")
    if not chosen.endswith(".index.json"):
        return [chosen]
    stem = chosen.partition(".")[0]
    return [chosen, *(file for file in present if _SHARD.fullmatch(file) and file.startswith(f"{stem}-"))]


@contextmanager
def _hub_errors(name: str, repo: str) -> Iterator[None]:
    """Turn the hub's and its HTTP library's errors, which differ between releases, into one that says what to do."""
    from huggingface_hub import constants
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    try:
        yield
    except HFValidationError as error:
        raise ValueError(f"model {name!r}: {error}; for example 'hf:openai/clip-vit-base-patch16'") from error
    except RepositoryNotFoundError as error:  # gated ones too
        raise WeightsNotFound(
            f"model {name!r}: the hub has no repository {repo!r}, or it is private or gated; check the name, "
            "or log in with: hf auth login"
        ) from error
    except Exception as error:
        raise WeightsNotFound(
            f"the weights of {name!r} could not be fetched from the hub ({_first_line(error)}); they were "
            f"looked for in {constants.HF_HUB_CACHE}. Check the connection (HTTPS_PROXY, HF_ENDPOINT) and try again: "
            f"clipseg-ws download {name}   (the embedded model 'nano' needs no download)"
        ) from error


def _first_line(error: Any) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:160]}" if text else type(error).__name__
