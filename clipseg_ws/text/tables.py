"""The files of ``prompts/`` as tables: vocabularies, template lists, background lists, for help and lists. No torch."""

from __future__ import annotations

from clipseg_ws.registry import Entry, registry
from clipseg_ws.text.lists import list_vocabularies, read_prompts


def vocabularies() -> dict[str, Entry]:
    """Class files by name; ``about["classes"]`` says how many there are, the summary where they are from."""
    made = []
    for name in list_vocabularies():
        content = read_prompts(name)
        source = str(content.get("source", "")).strip().rstrip(".")
        made.append(Entry(name, source, about={"classes": len(content["classes"])}))
    return registry(*made)


def templates() -> dict[str, Entry]:
    """Template lists by name; the summary shows the first ones."""
    return registry(*(Entry(name, _shown(words, " | ")) for name, words in read_prompts("templates").items()))


def backgrounds() -> dict[str, Entry]:
    """Background lists by name; the summary shows the first words."""
    return registry(*(Entry(name, _shown(words, ", ")) for name, words in read_prompts("backgrounds").items()))


def _shown(words: list[str], between: str, most: int = 4) -> str:
    """ "26: sky, wall, tree, wood, ..." """
    return f"{len(words)}: {between.join(words[:most])}{between + '...' if len(words) > most else ''}".rstrip(": ")
