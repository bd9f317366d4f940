"""The digest of a model's weights without computing it again, or without loading the model. Imports no torch."""

from __future__ import annotations

from typing import Any

from clipseg_ws.backbones.errors import UnsupportedBackbone
from clipseg_ws.backbones.families import further, parse_name
from clipseg_ws.backbones.remembered import recall, release_of, remember, state_of


def known_digest(name: str) -> str | None:
    """``weights_sha256`` of a model that was loaded on this machine before and whose files have not changed since; read
    without torch and without loading it. None where it is not known.

    Raises as ``model_card``.
    """
    found = recall("digest", model_key(name))
    return found if isinstance(found, str) else None


def model_key(name: str) -> str | None:
    """What changes when the files of a model, or the library that reads them, change; None where they are not here."""
    entry, rest = parse_name(name)
    files = further(entry, "files")
    try:
        state = None if files is None else state_of(files(rest))
    except (FileNotFoundError, UnsupportedBackbone):
        return None  # whoever loads it says so
    return None if state is None else f"{name} {release_of('open_clip_torch')} {state}"


def know_again(name: str, key: str | None, backbone: Any) -> None:
    """Give a backbone that was just loaded the digest that is remembered of its files, or remember the one it has.

    ``key``: ``model_key(name)`` from before the files were read.
    """
    digest = recall("digest", key)
    if digest is not None:
        backbone.weights_sha256 = digest  # in place of computing it
    elif key is not None and key == model_key(name):  # the files are those that were read
        remember("digest", key, backbone.weights_sha256)
