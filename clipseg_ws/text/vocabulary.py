"""Class names, synonyms, background words and prompt templates: from strings, lists and files to a `Vocabulary`.

**Strings.** ``"cat; person, people, human"``: ``;`` (or a line break) between classes, ``,`` between the synonyms of
one class; the first synonym is the display name. White space is collapsed, text is brought to Unicode NFC, stray
separators are ignored (``";cat,,;"`` is one class), a synonym repeated within its class counts once.

**Lists.** ``["cat", "person, people"]`` or ``[["cat"], ["person", "people"]]`` or the YAML entries below.

**YAML files** (`.yaml`, `.yml`), and the files of ``prompts/``, which are called by name (``"voc"``)::

    classes:                 # a list (or one string as above)
      - cat
      - person, people
      - {name: tv, words: [tvmonitor screen, television]}   # a display name of its own
      - {name: owl, prompts: ["a photo of an {}.", "a bird with large round eyes"]}   # descriptions, not the templates
    background: voc-clip-es  # optional: a named list of prompts/backgrounds.yaml, or a list of words
    templates: imagenet80    # optional: a named list of prompts/templates.yaml, one template with {}, or a list
    fusion: max              # optional: "string" (default) or "max"
    source: where it is from # optional, not read

**Text files** (`.txt`, or a `pathlib.Path` of another name): one class a line, synonyms by ``,``; lines with ``#``
first are comments; ``;`` is refused, because some code bases write it between synonyms.

A class named "background" is not a class, since label 0 is the background already: its words become background words.
A background word that a class has as name or synonym is dropped, since no class can win against itself. Names, and
words of different classes, must differ by more than case. No torch is imported before something is embedded.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from clipseg_ws.files import write_text
from clipseg_ws.structures import Vocabulary
from clipseg_ws.text.embeddings import class_scores, embed_vocabulary, select, texts
from clipseg_ws.text.lists import (
    clean_word,
    list_backgrounds,
    list_templates,
    list_vocabularies,
    load_background,
    load_templates,
    nfc,
    read_prompts,
    unique,
)

__all__ = [
    "ClassSpec",
    "class_scores",
    "embed_vocabulary",
    "list_backgrounds",
    "list_templates",
    "list_vocabularies",
    "load_background",
    "load_templates",
    "load_vocabulary",
    "parse_classes",
    "select",
    "texts",
    "write_classes",
]

ClassSpec: TypeAlias = str | os.PathLike[str] | Sequence[Any] | Vocabulary
FUSIONS = ("string", "max")
_KEYS = ("classes", "background", "templates", "fusion", "source")
_EXAMPLE = 'for example "cat; person, people, human"'


def parse_classes(
    spec: ClassSpec,
    *,
    background: str | Sequence[str] | None = None,
    templates: str | Sequence[str] | None = None,
    fusion: str | None = None,
) -> Vocabulary:
    """The `Vocabulary` that ``spec`` stands for; the forms are listed in the module's docstring.

    Args:
        spec: a string, a list, a `Vocabulary`, the path of a class file, or a name from ``prompts/`` (upper case and
            ``_`` for ``-`` are forgiven). A string is a path if it ends in .yaml, .yml or .txt or starts with ``/``,
            ``./``, ``../`` or ``~/``; ``["voc"]`` is a class called "voc".
        background: replaces the background words of ``spec``; see `load_background`. None keeps them.
        templates: replaces the templates of ``spec``; see `load_templates`. None keeps them.
        fusion: replaces the fusion of ``spec``, "string" or "max". None keeps it.

    Raises:
        TypeError: ``spec`` is none of the above.
        ValueError: no class, a name or word used twice, a file that is not as documented, an unknown list name.
        FileNotFoundError: the class file does not exist.
    """
    document, origin = _document(spec)
    given = {"background": background, "templates": templates, "fusion": fusion}
    document = document | {key: value for key, value in given.items() if value is not None}
    return _build(document, origin, keep_inline=background is None)


def load_vocabulary(name: str) -> Vocabulary:
    """A vocabulary of ``prompts/`` by name. Raises ValueError with the choices for an unknown one."""
    known = _known_name(name)
    if known is None:
        raise ValueError(f"unknown vocabulary {name!r}; choices are {', '.join(list_vocabularies())}")
    return _build(read_prompts(known), f"prompts/{known}.yaml")


def write_classes(vocabulary: Vocabulary, path: str | os.PathLike[str]) -> None:
    """A class file that `parse_classes` reads back as ``vocabulary``. Raises ValueError for a name without .yaml."""
    target = Path(path)
    if target.suffix.lower() not in (".yaml", ".yml"):
        raise ValueError(f"{target}: a class file ends in .yaml, for example experts.yaml")
    document, _ = _document(vocabulary)
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in document.items()}
    write_text(target, yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=120))


def _document(spec: ClassSpec) -> tuple[dict[str, Any], str]:
    """Any form of ``spec`` as the mapping of a YAML file, and what to call it in errors."""
    if isinstance(spec, Vocabulary):
        if len(spec.names) != len(spec.synonyms):
            raise ValueError(f"vocabulary: {len(spec.names)} names but synonyms for {len(spec.synonyms)} classes")
        classes = [{"name": n, "words": list(w)} for n, w in zip(spec.names, spec.synonyms, strict=True)]
        for entry, own in zip(classes, spec.prompts, strict=False):
            entry |= {"prompts": list(own)} if own else {}
        rest = {"background": spec.background, "templates": spec.templates, "fusion": spec.fusion}
        return {"classes": classes, **rest}, "vocabulary"
    if isinstance(spec, os.PathLike):
        return _read_file(Path(spec)), os.fspath(spec)
    if isinstance(spec, str):
        known = _known_name(spec)
        if known is not None:
            return read_prompts(known), f"prompts/{known}.yaml"
        if _looks_like_path(spec):
            return _read_file(Path(spec.strip()).expanduser()), spec.strip()
        return {"classes": spec}, "classes"
    if isinstance(spec, Sequence) and not isinstance(spec, bytes | bytearray):
        return {"classes": spec}, "classes"
    raise TypeError(f"classes: got {type(spec).__name__}; give a string, a list, a path or a Vocabulary, {_EXAMPLE}")


def _build(document: Mapping[str, Any], origin: str, keep_inline: bool = True) -> Vocabulary:
    """Check a document and make the Vocabulary; ``keep_inline``: a class named "background" adds to the background."""
    unknown = [str(key) for key in document if key not in _KEYS]
    if unknown or "classes" not in document:
        problem = f"unknown key {', '.join(unknown)}" if unknown else "no key 'classes'"
        raise ValueError(f"{origin}: {problem}; a class file has classes and optionally {', '.join(_KEYS[1:])}")
    entries = _entries(document["classes"], origin)
    classes = [entry for entry in entries if entry[0].casefold() != "background"]
    if not classes:
        raise ValueError(f"{origin}: no class to look for; give at least one besides the background, {_EXAMPLE}")
    _check_distinct(classes, origin)
    fusion, templates, behind = (document.get(key) for key in ("fusion", "templates", "background"))
    if fusion is not None and fusion not in FUSIONS:
        raise ValueError(f"{origin}: fusion {fusion!r} is unknown; choices are {', '.join(FUSIONS)}")
    inline = [word for name, words in entries if keep_inline and name.casefold() == "background" for word in words]
    taken = {word.casefold() for name, words in classes for word in (name, *words)}
    background = unique([*inline, *(() if behind is None else load_background(behind))])
    return Vocabulary(
        names=tuple(name for name, _ in classes),
        synonyms=tuple(words for _, words in classes),
        background=tuple(word for word in background if word.casefold() not in taken),
        templates=Vocabulary.templates if templates is None else load_templates(templates),
        fusion=Vocabulary.fusion if fusion is None else fusion,
        prompts=_class_prompts(document["classes"], [name for name, _ in classes], origin),
    )


def _entries(listed: Any, origin: str) -> list[tuple[str, tuple[str, ...]]]:
    """(display name, words) of every class, from a string or from the list of a document."""
    if isinstance(listed, str):  # parts that hold separators only are what stray ones leave
        listed = [part for part in re.split(r"[;\r\n]", nfc(listed)) if part.replace(",", " ").strip()]
    if not isinstance(listed, Sequence):
        raise ValueError(f"{origin}: classes is {type(listed).__name__}; give a list, {_EXAMPLE}")
    entries = []
    for number, entry in enumerate(listed, 1):
        where = f"{origin}, class {number}"
        if isinstance(entry, Mapping):
            if not {"name"} <= set(entry) <= {"name", "words", "prompts"}:
                keys = ", ".join(map(str, entry)) or "nothing"
                raise ValueError(
                    f"{where}: got keys {keys}; a class is {{name: tv, words: [television, screen], prompts: [a flat "
                    f"{{}}]}}, words and prompts optional"
                )
            name = clean_word(entry["name"], where)
            entries.append((name, _words(entry.get("words", [name]), where)))
        else:
            words = _words(entry, where)
            entries.append((words[0], words))
    return entries


def _class_prompts(listed: Any, names: Sequence[str], origin: str) -> tuple[tuple[str, ...], ...]:
    """Every class's own prompts in the order of ``names``; empty where no class has any."""
    entries = [entry for entry in listed if isinstance(entry, Mapping)] if not isinstance(listed, str) else []
    own: dict[str, tuple[str, ...]] = {}
    for entry in entries:
        given = entry.get("prompts")
        given = [given] if isinstance(given, str) else given
        bad = given is not None and not isinstance(given, Sequence)
        if bad or any(not isinstance(p, str) or not p.strip() or p.count("{}") > 1 for p in given or ()):
            raise ValueError(
                f"{origin}, class {entry['name']!r}: prompts {given!r}; give sentences with one {{}} or none, for "
                'example ["a photo of a {}.", "a bird with large round eyes"]'
            )
        own[clean_word(entry["name"], origin)] = tuple(" ".join(nfc(p).split()) for p in given or ())
    return tuple(own.get(name, ()) for name in names) if any(own.values()) else ()


def _words(value: Any, where: str) -> tuple[str, ...]:
    """The words of one class, at least one: from "a, b" or from ["a", "b"]."""
    if isinstance(value, str):
        value = [word for word in nfc(value).split(",") if word.strip()]
    if not isinstance(value, Sequence):
        value = [value]  # clean_word names the type
    words = unique(clean_word(word, where) for word in value)
    if not words:
        raise ValueError(f"{where}: no word; remove the entry or name the class, {_EXAMPLE}")
    return words


def _check_distinct(classes: Sequence[tuple[str, tuple[str, ...]]], origin: str) -> None:
    """Raises ValueError if two classes share a name or a word (case ignored)."""
    for kind, groups in (("name", [(name,) for name, _ in classes]), ("word", [words for _, words in classes])):
        first: dict[str, int] = {}
        for index, group in enumerate(groups):
            for text in group:
                other = first.setdefault(text.casefold(), index)
                if other != index:
                    pair = f"{classes[other][0]!r} and {classes[index][0]!r}"
                    raise ValueError(f"{origin}: the {kind} {text!r} stands for two classes, {pair}; keep it in one")


def _known_name(text: str) -> str | None:
    """The vocabulary of ``prompts/`` that ``text`` names, or None. Raises ValueError for a slip like "voc21"."""
    name, names = text.strip().lower().replace("_", "-"), list_vocabularies()
    if name in names:
        return name
    # a word with digits or '-' that resembles a vocabulary ("ade20k"), or its first half ("coco"), is hardly a class
    near = difflib.get_close_matches(name, [known for known in names if known[:3] == name[:3]], 1, 0.66)
    code_like = re.fullmatch(r"(?=.*[0-9-])[a-z][a-z0-9-]*", name) and near
    if code_like or any(known.startswith(f"{name}-") for known in names):
        choices = ", ".join(names)
        raise ValueError(f"unknown vocabulary {text!r}; choices are {choices}; for a class of that name use [{text!r}]")
    return None


def _looks_like_path(text: str) -> bool:
    return ";" not in text and bool(re.match(r"\s*(~?/|\.{1,2}/).|.*\.(ya?ml|txt)\s*$", text, re.IGNORECASE))


def _read_file(path: Path) -> dict[str, Any]:
    """A class file as a document. Raises FileNotFoundError, or ValueError where it is not as documented."""
    if not path.is_file():
        raise FileNotFoundError(f"class file {path} does not exist; give a .yaml or .txt file, or names, {_EXAMPLE}")
    try:
        text = nfc(path.read_text("utf-8-sig"))
        if path.suffix.lower() in (".yaml", ".yml"):
            document = yaml.safe_load(text)
            if not isinstance(document, dict):
                raise ValueError(f"{path}: no mapping at the top; write for example 'classes: [cat, dog]'")
            return document
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: not a readable class file: {error}") from error
    lines = [line if not line.lstrip().startswith("#") else "" for line in text.split("\n")]
    for number, line in enumerate(lines, 1):
        if ";" in line:
            raise ValueError(f"{path}, line {number}: ';' in {line!r}; write one class a line, synonyms by ','")
    return {"classes": "\n".join(lines)}
