"""``hf:REPO``: a repository of the model hub that holds a CLIP in either format."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from clipseg_ws.backbones import hub
from clipseg_ws.backbones.card import ModelCard
from clipseg_ws.backbones.errors import UnsupportedBackbone, WeightsNotFound
from clipseg_ws.backbones.folder import check_folder_config, load_folder
from clipseg_ws.backbones.layout import Checkpoint
from clipseg_ws.backbones.places import (
    OPEN_CLIP_CONFIG,
    OPEN_CLIP_WEIGHTS,
    TRANSFORMERS_CONFIG,
    TRANSFORMERS_WEIGHTS,
    find_weights,
    folder_card,
)
from clipseg_ws.backbones.preprocessing import PROCESSOR_FILES, TOKENIZER_FILES

_MORE_TOKENIZER_FILES = (
    "tokenizer_config.json", "special_tokens_map.json", "sentencepiece.bpe.model", "spiece.model", "vocab.txt",
    "merges.txt",
)  # fmt: skip
_CONFIGS = (OPEN_CLIP_CONFIG, TRANSFORMERS_CONFIG, *PROCESSOR_FILES, *TOKENIZER_FILES, *_MORE_TOKENIZER_FILES)
_SHARD = re.compile(r"(model|pytorch_model)-\d+-of-\d+\.(safetensors|bin)")


def load_repo(repo: str, *, offline: bool = False) -> Checkpoint:
    """The model of ``hf:REPO``. Raises as ``repo_folder`` and ``folder.load_folder``."""
    return load_folder(repo_folder(repo, offline=offline), offline=offline)


def fetch_repo(repo: str) -> list[Path]:
    """The repository's folder, brought up to date. Raises as ``repo_folder``."""
    return [repo_folder(repo, refresh=True)]


def repo_card(repo: str) -> ModelCard:
    """The card of ``hf:REPO`` where it is cached, an empty one where it is not; nothing is fetched."""
    folder = cached_snapshot(repo)
    return ModelCard() if folder is None else folder_card(folder)


def repo_folder(repo: str, *, offline: bool = False, refresh: bool = False) -> Path:
    """The cached snapshot of a repository with a CLIP in either format, downloaded where it is not complete.

    Raises:
        WeightsNotFound: not cached and offline, or the hub cannot be reached, or there is no such repository.
        UnsupportedBackbone: the repository's configuration is no CLIP ViT's (found before the weights are fetched).
    """
    name = f"hf:{repo}"
    folder = cached_snapshot(repo)
    if folder and (not refresh or hub.is_offline(offline)):
        return folder
    hub.require_network(name, repo, (OPEN_CLIP_CONFIG, TRANSFORMERS_CONFIG, "and weights"), offline)
    present = hub.list_files(name, repo)
    check_folder_config(hub.fetch(name, repo, [file for file in _CONFIGS if file in present]))
    return hub.fetch(name, repo, _weight_files(name, repo, present))


def cached_snapshot(repo: str) -> Path | None:
    """The snapshot folder of a supported model whose files are all there, or None."""
    with hub.hub_errors(f"hf:{repo}", repo):
        config = hub.cached_file(repo, OPEN_CLIP_CONFIG) or hub.cached_file(repo, TRANSFORMERS_CONFIG)
    if config is None:
        return None
    try:
        check_folder_config(config.parent)
        weights = find_weights(config.parent)
    except (UnsupportedBackbone, FileNotFoundError, ValueError):
        return None
    if weights.name.endswith(".index.json"):
        names = {shard.name for shard in shards(config.parent)}
        count = {int(name.rpartition("-of-")[2].partition(".")[0]) for name in names}
        return config.parent if count == {len(names)} else None
    return config.parent


def shards(folder: Path) -> list[Path]:
    """The parts of transformers' weights in a folder."""
    return [file for file in folder.iterdir() if _SHARD.fullmatch(file.name)]


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
