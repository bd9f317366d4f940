"""What was found out about files once and holds as long as they are the same: digests of weights. Imports no torch.

``weights.json`` in the cache (``$CLIPSEG_WS_CACHE``, else the user's cache folder) has an entry a set of files: their
paths, sizes, times of change and inodes -> what was computed. A file that changes in any of these is looked at again.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from clipseg_ws.files import write_text
from clipseg_ws.text.vector_cache import default_cache_dir
from clipseg_ws.together import locked

VERSION = 1  # part of every key; raise it where a digest is computed differently
KEPT = 500  # entries; the oldest make way


def state_of(files: Iterable[str | Path]) -> str | None:
    """A key that changes with every change of the files or of their links; None where one is not there."""
    found = []
    for file in files:
        try:
            real = os.path.realpath(file)
            now = os.stat(real)
        except OSError:
            return None
        found.append((real, now.st_size, now.st_mtime_ns, now.st_ctime_ns, now.st_ino))
    return hashlib.sha256(json.dumps([VERSION, *found]).encode()).hexdigest() if found else None


def recall(kind: str, key: str | None) -> Any:
    """What was remembered, JSON-able, or None."""
    return None if key is None else _read(_file()).get(f"{kind} {key}")


def remember(kind: str, key: str | None, value: Any) -> None:
    """Keep a value that is JSON-able; where the cache cannot be written nothing is kept and nothing fails."""
    if key is None:
        return
    path = _file()
    with suppress(OSError), locked(path.with_name(".weights.lock"), what="the list of known weights"):
        held = {k: v for k, v in _read(path).items() if k != f"{kind} {key}"} | {f"{kind} {key}": value}
        write_text(path, json.dumps(dict(list(held.items())[-KEPT:])))


def release_of(package: str) -> str:
    """The installed version of a package, "" for none; read from its metadata, nothing is imported."""
    return _release_of(package, tuple(sys.path))


@cache
def _release_of(package: str, path: tuple[str, ...]) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _file() -> Path:
    return default_cache_dir().parent / "weights.json"


def _read(path: Path) -> Mapping[str, Any]:
    """All entries; none where the file is missing or damaged."""
    with suppress(OSError, ValueError):
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict):
            return content
    return {}
