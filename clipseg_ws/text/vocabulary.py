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
first are comments; ``;`` is refused, because some code bases write it between synonyms. **JSON**: a list of names, the
mapping of a YAML file, or ``categories`` or ``names`` of another tool. **CSV**: one column of names.

LabelMe's ``__ignore__`` and ``_background_`` are no classes.

A class named "background" is not a class, since label 0 is the background already: its words become background words.
A background word that a class has as name or synonym is dropped, since no class can win against itself. Names, and
words of different classes, must differ by more than case. No torch is imported before something is embedded.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from clipseg_ws.door import user_path
from clipseg_ws.structures import Vocabulary, word_key
from clipseg_ws.text.class_entries import EXAMPLE, check_distinct, class_entries, class_prompts
from clipseg_ws.text.class_files import as_document, known_name, looks_like_path, read_class_file
from clipseg_ws.text.lists import list_vocabularies, load_background, load_templates, read_prompts, unique

ClassSpec: TypeAlias = str | os.PathLike[str] | Sequence[Any] | Vocabulary
FUSIONS = ("string", "max")
NO_CLASSES = ("__ignore__", "_background_", "__background__")  # LabelMe's words in labels.txt: no class, label 0
_KEYS = ("classes", "background", "templates", "fusion", "source")


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
            ``_`` for ``-`` are forgiven). A string is a path if it ends in .yaml, .yml, .txt, .json or .csv or starts
            with ``/``, ``./``, ``../`` or ``~/``; ``["voc"]`` is a class called "voc".
        background: replaces the background words of ``spec``; see `load_background`. "none" and () stand for no words.
            None keeps what ``spec`` says; where that says nothing either, the vocabulary's background is None.
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
    known = known_name(name)
    if known is None:
        raise ValueError(f"unknown vocabulary {name!r}; choices are {', '.join(list_vocabularies())}")
    return _build(read_prompts(known), f"prompts/{known}.yaml")


def _document(spec: ClassSpec) -> tuple[dict[str, Any], str]:
    """Any form of ``spec`` as the mapping of a YAML file, and what to call it in errors."""
    if isinstance(spec, Vocabulary):
        return as_document(spec), "vocabulary"
    if isinstance(spec, os.PathLike):
        return read_class_file(Path(spec)), os.fspath(spec)
    if isinstance(spec, str):
        known = known_name(spec)
        if known is not None:
            return read_prompts(known), f"prompts/{known}.yaml"
        if looks_like_path(spec):
            return read_class_file(user_path(spec.strip())), spec.strip()
        _ask_about_commas(spec)
        return {"classes": spec}, "classes"
    if isinstance(spec, Sequence) and not isinstance(spec, bytes | bytearray):
        return {"classes": spec}, "classes"
    raise TypeError(f"classes: got {type(spec).__name__}; give a string, a list, a path or a Vocabulary, {EXAMPLE}")


def _ask_about_commas(spec: str) -> None:
    """Warn where commas alone make one class: "cat, dog, cow" is a cat that is also called dog and cow."""
    words = [word.strip() for word in spec.split(",") if word.strip()]
    if len(words) > 1 and ";" not in spec and "\n" not in spec:
        warnings.warn(
            f"classes {spec!r} is one class, {words[0]!r}, with {len(words) - 1} synonyms; several classes are written "
            f"'{'; '.join(words[:3])}'; end it with ';' to say that it is meant",
            UserWarning,
            stacklevel=4,
        )


def _build(document: Mapping[str, Any], origin: str, keep_inline: bool = True) -> Vocabulary:
    """Check a document and make the Vocabulary; ``keep_inline``: a class named "background" adds to the background."""
    unknown = [str(key) for key in document if key not in _KEYS]
    if unknown or "classes" not in document:
        problem = f"unknown key {', '.join(unknown)}" if unknown else "no key 'classes'"
        raise ValueError(f"{origin}: {problem}; a class file has classes and optionally {', '.join(_KEYS[1:])}")
    entries = class_entries(document["classes"], origin)
    entries = [entry for entry in entries if entry[0].casefold() not in NO_CLASSES]
    classes = [entry for entry in entries if word_key(entry[0]) != "background"]
    if not classes:
        raise ValueError(f"{origin}: no class to look for; give at least one besides the background, {EXAMPLE}")
    check_distinct(classes, origin)
    fusion, templates, behind = (document.get(key) for key in ("fusion", "templates", "background"))
    if fusion is not None and fusion not in FUSIONS:
        raise ValueError(f"{origin}: fusion {fusion!r} is unknown; choices are {', '.join(FUSIONS)}")
    inline = [word for name, words in entries if keep_inline and word_key(name) == "background" for word in words]
    taken = {word_key(word) for name, words in classes for word in (name, *words)}
    background = None  # nobody said anything
    if inline or behind is not None:
        words = unique([*inline, *(() if behind is None else load_background(behind))])
        background = tuple(word for word in words if word_key(word) not in taken)
    return Vocabulary(
        names=tuple(name for name, _ in classes),
        synonyms=tuple(words for _, words in classes),
        background=background,
        templates=Vocabulary.templates if templates is None else load_templates(templates),
        fusion=Vocabulary.fusion if fusion is None else fusion,
        prompts=class_prompts(document["classes"], [name for name, _ in classes], origin),
    )
