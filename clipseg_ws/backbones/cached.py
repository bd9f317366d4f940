"""What of the hub's cache on this machine can be loaded."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from clipseg_ws.backbones.places import find_weights
from clipseg_ws.backbones.repos import cached_snapshot, shards
from clipseg_ws.backbones.tags import cached_tag, supported_tags


class CachedWeights(NamedTuple):
    """Weights in the hub's cache: the name to load them by, the file (or folder of shards), its size in bytes."""

    name: str
    path: Path
    size: int


def cached_weights() -> list[CachedWeights]:
    """Weights in the hub's cache that ``load_backbone`` reads without the network, by name; empty without a cache."""
    from huggingface_hub import CacheNotFound, constants, scan_cache_dir

    found = []
    for tag in supported_tags():
        path = cached_tag(tag)
        if path:
            found.append(CachedWeights(tag.name, path, path.stat().st_size))
    try:
        repos = [repo.repo_id for repo in scan_cache_dir(constants.HF_HUB_CACHE).repos if repo.repo_type == "model"]
    except (CacheNotFound, ValueError):
        repos = []
    for repo in repos:
        folder = cached_snapshot(repo)
        if folder and not any(folder in entry.path.parents for entry in found):
            found.append(_snapshot(f"hf:{repo}", folder))
    return sorted(found)


def _snapshot(name: str, folder: Path) -> CachedWeights:
    weights = find_weights(folder)
    if weights.name.endswith(".index.json"):
        return CachedWeights(name, folder, sum(part.stat().st_size for part in shards(folder)))
    return CachedWeights(name, weights, weights.stat().st_size)
