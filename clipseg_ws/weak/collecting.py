"""What the files of one table hold, by picture: entries of one name together, problems named, names as keys."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Generic, TypeVar

from clipseg_ws.weak.names import normal_name, stem
from clipseg_ws.weak.readers.forms import Drawn, Found
from clipseg_ws.weak.written import Name, taken_apart

Content = TypeVar("Content")


class LabelWarning(UserWarning):
    """Something in a label file that was left out, or decided; the run goes on."""


@dataclass
class Collected(Generic[Content]):
    """A table.

    Attributes:
        names: key -> how the file names the picture; a key is the name without suffix where that is clear.
        contents: key -> what was found, one a file entry, with where it stands.
        broken: key -> why nothing of the picture's entry can be used. problems: everything that was left out.
    """

    names: dict[str, Name] = field(default_factory=dict)
    contents: dict[str, list[tuple[str, Content]]] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def collect(found: Iterable[tuple[Path, Found[Content]]]) -> Collected[Content]:
    """Join what several entries and files say of one picture. Warns of what was left out.

    Raises ValueError for an entry without a picture's name.
    """
    joined: dict[str, list[tuple[Path, Found[Content]]]] = {}
    result: Collected[Content] = Collected()
    for file, entry in map(_checked, found):
        result.problems += [f"{file}, {problem}" for problem in entry.problems]
        if entry.name is not None:
            joined.setdefault(_full(entry.name, file), []).append((file, entry))
    shared = Counter(stem(name) for name in joined)
    for full, entries in joined.items():
        key = full if shared[stem(full)] > 1 else stem(full)
        file, first = entries[0]
        assert first.name is not None
        folder = "" if first.name.folder else str(file.parent.absolute())
        result.names[key] = replace(first.name, folder=folder) if folder else first.name
        usable = [(_where(file, e), e.content) for file, e in entries if e.content is not None]
        if usable:
            result.contents[key] = usable
        else:
            why = "; ".join(problem for _, e in entries for problem in e.problems)
            result.broken[key] = f"{file}, picture {full!r}: no entry can be used: {why}"
    warn_of(result.problems, "left out")
    return result


def _checked(given: tuple[Path, Found[Content]]) -> tuple[Path, Found[Content]]:
    """An entry whose classes are texts; the content of another is a problem."""
    file, entry = given
    strange = [name for name in _class_names(entry.content) if not isinstance(name, str)]
    if not strange:
        return given
    row = f"{entry.name.row}: " if entry.name is not None and entry.name.row else ""
    problem = f"{row}a class is called {strange[0]!r:.40}; a text is needed, e.g. 'cat'"
    return file, replace(entry, content=None, problems=(*entry.problems, problem))


def _class_names(content: object) -> list[object]:
    if isinstance(content, Drawn):
        marks = content.marks
        return [*(marks.tags or ()), *(mark[0] for mark in (*marks.boxes, *marks.points, *content.lines))]
    return list(content) if isinstance(content, (list, tuple)) else []


def _full(name: Name, file: Path) -> str:
    """The name in one form; URLs by their last part."""
    written = name.choices[0]
    if not isinstance(written, str) or not written.strip():
        raise ValueError(f"{file}, {name.row}: the entry lacks its picture's name, got {written!r:.60}")
    parts = taken_apart(written)
    return parts.last if parts.kind == "url" else normal_name(written)


def _where(file: Path, entry: Found[Content]) -> str:
    row = f", {entry.name.row}" if entry.name is not None and entry.name.row else ""
    return f"{file}{row}"


def warn_of(problems: list[str], what: str, show: Callable[[str], str] = str) -> None:
    """One warning for any number of problems: the first three, and how many."""
    if problems:
        more = f"; … ({len(problems)} in all)" if len(problems) > 3 else ""
        text = f"{what}: {'; '.join(map(show, problems[:3]))}{more}"
        warnings.warn_explicit(text, LabelWarning, "labels", 1)  # the place in the code says nothing to the reader
