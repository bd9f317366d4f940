"""Texts to token ids: CLIP's tokenizer, or the one of the model hub that a configuration names."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from torch import Tensor

from clipseg_ws.backbones import hub
from clipseg_ws.backbones.errors import WeightsNotFound

Tokenizer = Callable[[list[str]], Tensor]


def make_tokenizer(text_cfg: Mapping[str, Any], *, folder: Path | None = None, offline: bool = False) -> Tokenizer:
    """The tokenizer of open_clip's text configuration: a list of T strings -> [T, context] int64.

    Args:
        folder: a local model; a tokenizer in it goes before the named one. offline: never use the network.

    Raises:
        WeightsNotFound: the named tokenizer is not on this machine and cannot be fetched.
    """
    name = text_cfg.get("hf_tokenizer_name") or text_cfg.get("hf_model_name") or "openai/clip"
    if not name.startswith("openai/clip"):
        return _hub_tokenizer(name, text_cfg, folder, offline)
    length = text_cfg.get("context_length", 77)
    cleaning = (text_cfg.get("tokenizer_kwargs") or {}).get("clean")
    if cleaning:
        tokenizer: Tokenizer = clip_tokenizer_module().SimpleTokenizer(context_length=length, clean=cleaning)
        return tokenizer
    return partial(tokenize, context_length=length)


def tokenize(texts: str | list[str], context_length: int = 77) -> Tensor:
    """T strings -> [T, context] int64 by CLIP's tokenizer, the one that open_clip shares: its tables are read once."""
    ids: Tensor = clip_tokenizer_module().tokenize(texts, context_length=context_length)
    return ids


@cache
def clip_tokenizer_module() -> Any:
    """``open_clip.tokenizer``, on first use; without the rest of open_clip, whose import takes seconds, where that has
    not been imported yet and the module needs none of it."""
    found = None if "open_clip" in sys.modules else find_spec("open_clip")
    if found is not None and found.origin is not None:
        name, file = "_clipseg_ws_clip_tokenizer", Path(found.origin).with_name("tokenizer.py")
        spec = spec_from_file_location(name, file)
        if spec is not None and spec.loader is not None:
            module = module_from_spec(spec)
            with suppress(ImportError, OSError):  # another release may have moved it or import its neighbours
                spec.loader.exec_module(module)
                return module
    return import_module("open_clip.tokenizer")


def _hub_tokenizer(name: str, text_cfg: Mapping[str, Any], folder: Path | None, offline: bool) -> Tokenizer:
    """transformers' tokenizer with open_clip's cleaning; a cached one is read without the network."""
    from open_clip.tokenizer import HFTokenizer

    options = {"context_length": text_cfg.get("context_length", 77), **(text_cfg.get("tokenizer_kwargs") or {})}
    if folder is not None and (folder / "tokenizer_config.json").is_file():
        name = str(folder)
    try:
        return HFTokenizer(name, local_files_only=True, **options)  # type: ignore[no-any-return]
    except Exception as error:  # transformers' own kinds of error differ between releases; not cached, most often
        if hub.is_offline(offline) or Path(name).is_dir():
            raise WeightsNotFound(
                f"the tokenizer {name!r} is not on this machine or cannot be read ({_line(error)}); it is fetched with "
                "the weights: run clipseg-ws download MODEL while online"
            ) from error
    hub.list_files(name, name)  # fails within seconds without a connection, where transformers retries for a minute
    with hub.hub_errors(name, name):
        return HFTokenizer(name, **options)  # type: ignore[no-any-return]


def folder_tokenizer(folder: Path | str, context: int) -> Tokenizer:
    """transformers' tokenizer in a model's folder, padded to ``context`` tokens: T strings -> [T, context] int64.

    Raises:
        FileNotFoundError: the folder has none.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers' own kinds of error differ between releases
        raise FileNotFoundError(
            f"{folder} has no tokenizer that transformers can read ({_line(error)}); tokenizer.json and "
            "tokenizer_config.json are expected"
        ) from error
    return partial(_tokenize, tokenizer, context)


def _tokenize(tokenizer: Any, context: int, texts: list[str]) -> Tensor:
    tokenizer.padding_side = "right"  # as all of these models were trained; Gemma's tokenizer pads on the left
    out = tokenizer(texts, padding="max_length", truncation=True, max_length=context, return_tensors="pt")
    ids: Tensor = out.input_ids
    return ids


def text_configuration(name: str, *, offline: bool = False) -> Path:
    """The folder with the configuration of a text tower of the hub, or the same where it is a folder."""
    if Path(name).is_dir():
        return Path(name)
    cached = hub.cached_file(name, "config.json")
    if cached is not None:
        return cached.parent
    hub.require_network(name, name, ["config.json"], offline)
    hub.list_files(name, name)
    return hub.fetch(name, name, ["config.json"])


def _line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0][:160] if text else type(error).__name__
