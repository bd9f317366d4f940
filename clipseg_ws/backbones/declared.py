"""Sizes that a model's configuration declares, judged before anything of that size is built. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clipseg_ws.door.documents import read_json as door_json
from clipseg_ws.door.errors import InputError
from clipseg_ws.door.limits import check
from clipseg_ws.values import is_number

_LAYERS = ("layers", "num_hidden_layers", "num_layers", "depth", "n_layers")
_WIDTHS = (
    "width", "head_width", "heads", "hidden_size", "intermediate_size", "embed_dim", "projection_dim", "num_channels",
    "num_attention_heads", "attention_heads", "patch_size", "image_size", "context_length", "max_position_embeddings",
)  # fmt: skip
_KINDS = dict.fromkeys(_LAYERS, "layers") | dict.fromkeys(_WIDTHS, "width") | {"vocab_size": "vocabulary"}


def check_declared(config: Mapping[str, Any], file: object) -> None:
    """Raise InputError where a configuration, at any depth, declares more layers or features than a model has.

    Example:
        >>> check_declared({"text_cfg": {"layers": 1000000}}, "open_clip_config.json")
        Traceback (most recent call last):
        clipseg_ws.door.errors.InputError: 'open_clip_config.json', text_cfg.layers: ...
    """
    waiting: list[tuple[str, Any]] = [("", config)]
    while waiting:
        place, content = waiting.pop()
        for key, value in content.items():
            name = f"{place}.{key}" if place else str(key)
            if isinstance(value, Mapping):
                waiting.append((name, value))
            for item in value if isinstance(value, (list, tuple)) else (value,):
                if key in _KINDS and is_number(item):
                    try:
                        check(_KINDS[key], int(item), str(item))
                    except InputError as error:
                        raise InputError(str(error), file=file, place=name) from error
                elif key in _KINDS and isinstance(item, (int, float)) and not isinstance(item, bool):
                    raise InputError("the number is not finite", file=file, place=name)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object, its declared sizes below the limits. Raises InputError otherwise."""
    try:
        content = door_json(path)
    except InputError as error:
        raise InputError(f"{path} is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}; an object is expected")
    check_declared(content, path)
    return content
