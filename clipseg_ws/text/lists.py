"""The files of ``prompts/`` (vocabularies, template lists, background lists) and what a word is. No torch.

Found through `importlib.resources` on ``clipseg_ws.prompts``, so a wheel serves them as a checkout does.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import Any

import yaml

from clipseg_ws.structures import word_key

_LISTS = ("templates", "backgrounds")  # files of prompts/ that are no vocabularies


def list_vocabularies() -> list[str]:
    """Names of the vocabularies in ``prompts/``, sorted."""
    files = (entry.name for entry in resources.files("clipseg_ws.prompts").iterdir())
    return sorted(stem for stem, end in map(os.path.splitext, files) if end == ".yaml" and stem not in _LISTS)


def list_templates() -> list[str]:
    """Names of the template lists in ``prompts/templates.yaml``, in the order of the file."""
    return list(read_prompts("templates"))


def list_backgrounds() -> list[str]:
    """Names of the background lists in ``prompts/backgrounds.yaml``, in the order of the file."""
    return list(read_prompts("backgrounds"))


def load_templates(name_or_list: str | Sequence[str]) -> tuple[str, ...]:
    """Templates by the name of their list ("imagenet80"), one template ("a photo of a {}."), or a list of templates.

    Raises ValueError for an unknown name (with the choices), an empty list, or a template without exactly one ``{}``.
    """
    if isinstance(name_or_list, str) and "{" not in name_or_list:
        name_or_list = _named_list("templates", name_or_list, 'or give a template, for example "a photo of a {}."')
    if not isinstance(name_or_list, Sequence) or not name_or_list:
        raise ValueError(f'templates: got {name_or_list!r}; give at least one, for example ["a photo of a {{}}."]')
    templates = (name_or_list,) if isinstance(name_or_list, str) else tuple(name_or_list)
    for template in templates:
        if not isinstance(template, str) or template.count("{}") != 1:
            raise ValueError(f'template {template!r} needs exactly one {{}}, for example "a photo of a {{}}."')
    return templates


def load_background(name_or_list: str | Sequence[str]) -> tuple[str, ...]:
    """Background words by the name of their list ("stuff26", "none"), as "sky, grass, road", or as a list of words.

    A string without a comma is always a name, so that a misspelt one does not become a word: one word is ``["sky"]``
    or ``"sky,"``. Repeated words count once; an empty string or list means no background words.
    Raises ValueError for an unknown name (with the choices) or something that is not a word.
    """
    words: Sequence[Any] = name_or_list
    if isinstance(name_or_list, str):
        if "," in name_or_list or not name_or_list.strip():
            words = [word for word in nfc(name_or_list).split(",") if word.strip()]
        else:
            words = _named_list("backgrounds", name_or_list.strip(), 'or words, for example "sky, grass" or ["sky"]')
    if not isinstance(words, Sequence):
        raise ValueError(f'background: got {words!r}; give the name of a list or words, for example ["sky", "grass"]')
    return unique(clean_word(word, "background") for word in words)


def read_prompts(stem: str) -> dict[str, Any]:
    """The mapping in ``prompts/<stem>.yaml``."""
    text = (resources.files("clipseg_ws.prompts") / f"{stem}.yaml").read_text("utf-8")
    content: dict[str, Any] = yaml.safe_load(text)
    return content


def clean_word(text: Any, where: str) -> str:
    """One word or phrase: NFC, white space collapsed.

    Raises ValueError, beginning with ``where``, for a separator inside, for nothing left, and for what is not text.
    """
    if not isinstance(text, str):
        raise ValueError(f'{where}: got {text!r} ({type(text).__name__}), not text; in YAML quote it, like "no"')
    word = nfc(text).strip()
    if not word or re.search(r"[,;\r\n]", word):
        raise ValueError(f"{where}: {text!r} is not one word or phrase; it must have no ',', ';' or line break")
    return " ".join(word.split())


def nfc(text: str) -> str:
    """Unicode NFC; to be applied before splitting, since it turns the Greek question mark (U+037E) into ``;``."""
    return unicodedata.normalize("NFC", text)


def unique(words: Iterable[str]) -> tuple[str, ...]:
    """Words without repeats (case ignored), order and first spelling kept."""
    first: dict[str, str] = {}
    for word in words:
        first.setdefault(word_key(word), word)
    return tuple(first.values())


def _named_list(stem: str, name: str, hint: str) -> list[str]:
    lists = read_prompts(stem)
    if name not in lists:
        raise ValueError(f"{stem}: unknown list {name!r}; choices are {', '.join(lists)}; {hint}")
    words: list[str] = lists[name]
    return words
