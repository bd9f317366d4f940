"""Class files and the names of those that come with the package: from disk to a document, and back."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from typing import Any

import yaml

from clipseg_ws.door.documents import parse_json, parse_yaml
from clipseg_ws.door.errors import InputError
from clipseg_ws.door.plain import is_file, read_text
from clipseg_ws.files import write_text
from clipseg_ws.structures import Vocabulary
from clipseg_ws.text.class_entries import EXAMPLE
from clipseg_ws.text.lists import list_vocabularies, nfc
from clipseg_ws.values import near_miss


def known_name(text: str) -> str | None:
    """The vocabulary of ``prompts/`` that ``text`` names, or None. Raises ValueError for a slip like "voc21"."""
    name, names = text.strip().lower().replace("_", "-"), list_vocabularies()
    if name in names:
        return name
    # a word with digits or '-' that resembles a vocabulary ("ade20k"), or its first half ("coco"), is hardly a class
    near = difflib.get_close_matches(name, [known for known in names if known[:3] == name[:3]], 1, 0.66)
    code_like = re.fullmatch(r"(?=.*[0-9-])[a-z][a-z0-9-]*", name) and near
    slip = re.fullmatch(r"[a-z]+", name) and any(_one_letter(name, known) for known in names)
    if code_like or slip or any(known.startswith(f"{name}-") for known in names):
        choices = ", ".join(names)
        raise ValueError(
            f"unknown vocabulary {text!r}; choices are {choices}; {near_miss(name, names)}for a class of that name use "
            f"[{text!r}], or on the command line '{text.strip()};'"
        )
    return None


def _one_letter(word: str, known: str) -> bool:
    """Whether one letter more, less or different makes one the other: "vocc", "cityscape"."""
    if abs(len(word) - len(known)) > 1 or len(known) < 3:
        return False
    if len(word) == len(known):
        return len(known) > 3 and sum(a != b for a, b in zip(word, known, strict=True)) == 1
    short, long = sorted((word, known), key=len)
    return any(long[:i] + long[i + 1 :] == short for i in range(len(long))) and len(short) >= 3


def looks_like_path(text: str) -> bool:
    """Whether a string names a class file rather than classes."""
    path = r"\s*(~?/|\.{1,2}/).|.*\.(ya?ml|txt|json|csv|tsv|xml|names|data)\s*$"
    return ";" not in text and bool(re.match(path, text, re.IGNORECASE))


def read_class_file(path: Path) -> dict[str, Any]:
    """A class file as a document. Raises FileNotFoundError, or ValueError where it is not as documented."""
    if not is_file(path):
        raise FileNotFoundError(f"class file {path} does not exist; give a .yaml or .txt file, or names, {EXAMPLE}")
    kind = path.suffix.lower()
    if kind in (".tsv", ".xml", ".data"):
        raise ValueError(f"{path}: no class file; give a .yaml, .txt, .json or .csv file, or names, {EXAMPLE}")
    try:
        text = nfc(read_text(path))
        if kind in (".yaml", ".yml", ".json"):
            document = parse_json(text) if kind == ".json" else parse_yaml(text)
            return _from_json(document, path) if kind == ".json" else _mapping(document, path)
    except ValueError as error:
        raise InputError(f"{path}: not a readable class file: {error}") from error
    lines = [line if not line.lstrip().startswith("#") else "" for line in text.splitlines()]
    if kind == ".csv":
        return {"classes": _from_csv(lines, path)}
    for number, line in enumerate(lines, 1):
        if ";" in line:
            raise ValueError(f"{path}, line {number}: ';' in {line!r}; write one class a line, synonyms by ','")
    return {"classes": "\n".join(lines)}


def _mapping(document: Any, path: Path) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise ValueError("no mapping at the top; write for example 'classes: [cat, dog]'")
    return document


def _from_json(document: Any, path: Path) -> dict[str, Any]:
    """A list of names, a mapping as in YAML, the categories of a COCO json, or ``names`` as YOLO numbers them."""
    if isinstance(document, dict):
        listed = document.get("categories", document.get("names"))
        if listed is None or "classes" in document:
            return _mapping(document, path)
        document = list(listed.values()) if isinstance(listed, dict) else listed
    if not isinstance(document, list):
        raise ValueError("no list of names; write for example ['cat', 'dog']")
    return {"classes": [item.get("name") if isinstance(item, dict) else item for item in document]}


def _from_csv(lines: list[str], path: Path) -> list[str]:
    """The names of a table of one column, a heading left out."""
    names = [line.strip().strip('"') for line in lines if line.strip()]
    if any(sign in name for name in names for sign in ",;\t"):
        raise ValueError(f"{path}: several columns; give a table with one column of names, or a .txt file")
    words = ("name", "names", "class", "classes", "label", "labels", "category")
    return names[1:] if names and names[0].casefold() in words else names


def write_classes(vocabulary: Vocabulary, path: str | os.PathLike[str]) -> None:
    """A class file that `parse_classes` reads back as ``vocabulary``. Raises ValueError for a name without .yaml."""
    target = Path(path)
    if target.suffix.lower() not in (".yaml", ".yml"):
        raise ValueError(f"{target}: a class file ends in .yaml, for example experts.yaml")
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in as_document(vocabulary).items()}
    write_text(target, yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=120))


def as_document(vocabulary: Vocabulary) -> dict[str, Any]:
    """The mapping of the class file that stands for ``vocabulary``; no key "background" where it says nothing.

    Raises ValueError where names and synonyms are not as many.
    """
    if len(vocabulary.names) != len(vocabulary.synonyms):
        raise ValueError(
            f"vocabulary: {len(vocabulary.names)} names but synonyms for {len(vocabulary.synonyms)} classes"
        )
    classes: list[dict[str, Any]] = [
        {"name": n, "words": list(w)} for n, w in zip(vocabulary.names, vocabulary.synonyms, strict=True)
    ]
    for entry, own in zip(classes, vocabulary.prompts, strict=False):
        entry |= {"prompts": list(own)} if own else {}
    said = {} if vocabulary.background is None else {"background": vocabulary.background}
    return {"classes": classes} | said | {"templates": vocabulary.templates, "fusion": vocabulary.fusion}
