"""What a result says of its picture as JSON: names, shares, scores, presence, and the configuration that made it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clipseg_ws import __version__
from clipseg_ws.files import write_text
from clipseg_ws.structures import Result


def write(result: Result, path: Path, files: Sequence[str]) -> None:
    """The record; ``files`` beside it are named in it."""
    height, width = result.labels.shape
    content = {
        "source": result.source,
        "size": {"width": width, "height": height},
        "setting": result.setting,
        "names": list(result.names),  # label i + 1 is names[i], 0 is background
        "shares": {name: round(share, 6) for name, share in result.shares().items()},
        "scores": dict(result.scores),
        "presence": result.presence(),
        "config": dict(result.config),
        "files": [name for name in files if name != path.name],
        "version": __version__,
    }
    write_text(path, json.dumps(plain(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def plain(value: Any) -> Any:
    """The same in JSON's types: numbers out of numpy or torch, NaN and infinity as null, anything else as text."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in (sorted(value, key=str) if isinstance(value, (set, frozenset)) else value)]
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
