"""Text vectors on disk: one safetensors file per (weights, templates) in ``<cache>/text``, one [E] vector a word.

Only new words are encoded, by one process at a time: the others wait and then read them. A file is written through a
temporary name: a reader never sees half a file. A file that cannot be read counts as empty. torch is imported on call.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from clipseg_ws.door import user_path
from clipseg_ws.files import TEMPORARY, atomic_write
from clipseg_ws.together import locked, sweep

if TYPE_CHECKING:
    import torch

VERSION = 1  # part of every cache key; raise it when a word's vector is computed differently


def default_cache_dir() -> Path:
    """``$CLIPSEG_WS_CACHE/text`` where that variable is set, else ``text`` in the user's cache folder."""
    import platformdirs

    root = os.environ.get("CLIPSEG_WS_CACHE") or platformdirs.user_cache_dir("clipseg_ws", appauthor=False)
    return user_path(root) / "text"


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps([VERSION, *parts]).encode()).hexdigest()


def cache_file(weights_key: str, templates: Sequence[str], cache_dir: str | Path | None) -> Path:
    """The file of one tower and one list of templates."""
    folder = default_cache_dir() if cache_dir is None else user_path(cache_dir)
    return folder / f"{_digest(weights_key, list(templates))}.safetensors"


def _load_cache(path: Path) -> dict[str, torch.Tensor]:
    """All vectors of a cache file by the digest of their word; nothing for a missing or broken file.

    The file is read at once: opened a second time under the same name it could be another writer's.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(path.read_bytes())
    except (OSError, SafetensorError):
        return {}


def read_cache(path: Path, words: Sequence[str]) -> dict[str, torch.Tensor]:
    """The vectors of those of ``words`` that the file holds."""
    import torch

    held = _load_cache(path)
    found = {word: held[key] for word in words if (key := _digest(word)) in held}
    # damage inside the data shows, mostly, in the length: such words are encoded again
    return {w: v for w, v in found.items() if v.dtype == torch.float32 and v.ndim == 1 and abs(v.norm() - 1) < 1e-3}


@contextmanager
def one_at_a_time(path: Path | None) -> Iterator[None]:
    """Held while words are encoded for a cache file; who waits says so. Nothing is held where no file can be made."""
    with ExitStack() as held:
        if path is not None:
            with suppress(OSError):
                held.enter_context(locked(path.with_suffix(".lock"), what="the cache of text embeddings"))
        yield


def write_cache(path: Path, fresh: dict[str, torch.Tensor]) -> None:
    """Add vectors to the file, through a temporary name; a folder that cannot be written is a warning, no error."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    new = {_digest(word): vector.contiguous().clone() for word, vector in fresh.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent, TEMPORARY, deep=False)
        held = _load_cache(path)  # again: another process may have added words meanwhile
        width = next(iter(new.values())).shape
        with atomic_write(path) as temporary:
            save_file({key: vector for key, vector in held.items() if vector.shape == width} | new, temporary)
    except (OSError, SafetensorError) as error:
        warnings.warn(f"text embeddings are not cached in {path.parent}: {error}", RuntimeWarning, stacklevel=3)
