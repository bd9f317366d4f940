"""Class names as visitors type them: never a path, bounded, and in the form that the command line takes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from clipseg_ws.structures import Vocabulary
from clipseg_ws.text.known_names import describe_unknown, unknown_names
from clipseg_ws.text.lists import list_vocabularies
from clipseg_ws.text.vocabulary import load_vocabulary, parse_classes

if TYPE_CHECKING:
    from clipseg_ws.backbones.protocol import Backbone

MOST_TEXT = 8_000  # characters
MOST_CLASSES = 300
EXAMPLE = "for example: house; car; person, people (; between classes, , between synonyms)"


def parse_names(text: str | None) -> tuple[str | None, Vocabulary | None]:
    """What was typed -> (``classes=`` for the Segmenter, its vocabulary); (None, None) where nothing was.

    Line breaks stand for ``;``. One of the lists of ``prompts/`` by name ("voc") is taken; a class file is not, so
    that nobody reads files of this machine through the page.

    Raises:
        ValueError: a path, too many names, or what ``parse_classes`` refuses.
    """
    text = re.sub(r"[\r\n]+", "; ", (text or "").strip())
    if not text.replace(";", " ").replace(",", " ").strip():
        return None, None
    if len(text) > MOST_TEXT:
        raise ValueError(f"the class names have {len(text)} characters; at most {MOST_TEXT} are taken")
    name = text.lower().replace("_", "-")
    if name in list_vocabularies():
        return name, load_vocabulary(name)
    if re.search(r"(^|;)\s*[~.]{0,2}/|\.(ya?ml|txt)\s*(;|$)", text, re.IGNORECASE):
        raise ValueError(f"{text[:60]!r} looks like a file; type the names themselves, {EXAMPLE}")
    vocabulary = parse_classes(text)
    if len(vocabulary.names) > MOST_CLASSES:
        raise ValueError(f"{len(vocabulary.names)} classes; this page takes up to {MOST_CLASSES}")
    return text, vocabulary


def comma_hint(text: str | None) -> str:
    """A line for those who separated classes by commas; empty where there is nothing to say."""
    if text and "," in text and ";" not in text and "\n" not in text.strip():
        return "Only commas: these words count as synonyms of one class. Write ; between classes."
    return ""


def unknown_hint(text: str | None, backbone: Backbone) -> str:
    """A line about names that the model does not know; empty where it knows all, or has no list."""
    try:
        vocabulary = parse_names(text)[1]
    except (ValueError, OSError):  # said when the question is asked
        return ""
    found = {} if vocabulary is None else unknown_names(vocabulary, backbone.card.known_words)
    return describe_unknown(found, backbone.name, len(backbone.card.known_classes)) if found else ""
