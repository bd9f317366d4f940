"""What wrote the results in a folder: a hidden table of every picture's question, its own labels and the picture.

``FILE`` has a row an answer, appended before its files are written; of several rows of one name the last counts.
``QUESTIONS`` has a line a question: what its digest stands for, so that a later run can say what has changed.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from clipseg_ws.files import append_csv, append_line
from clipseg_ws.pictures.naming import identity, is_url

FILE, QUESTIONS = ".clipseg_ws_answers.csv", ".clipseg_ws_questions.jsonl"
_COLUMNS = ("name", "question", "labels", "place", "picture", "formats")
_WHOLE_FILE = 2**22  # bytes; of a larger picture its ends are digested


class Answer(NamedTuple):
    """Which question a picture's files answer.

    Attributes:
        question, labels: digests. place: absolute path or URL of the picture. picture: of ``picture_state``.
        formats: with parameters, as they were asked for.
    """

    question: str
    labels: str
    place: str
    picture: str
    formats: frozenset[str]


def read_answers(directory: str | Path) -> dict[str, Answer]:
    """Name of a picture's results -> what they answer; empty where nothing is known. Damaged rows are left out.

    Formats that were added later to one answer are joined.
    """
    found: dict[str, Answer] = {}
    with suppress(FileNotFoundError), open(Path(directory, FILE), encoding="utf-8", newline="") as file:
        for row in csv.reader(file):
            if len(row) == len(_COLUMNS) and row != list(_COLUMNS):
                name, question, labels, place, picture, formats = row
                now = Answer(question, labels, place, picture, frozenset(formats.split(";")) - {""})
                before = found.get(name)
                if before is not None and before[:3] == now[:3] and _size_and_digest(before) == _size_and_digest(now):
                    now = now._replace(formats=before.formats | now.formats)
                found[name] = now
    return found


def add_answer(directory: str | Path, name: str, answer: Answer) -> None:
    """Append a row; safe with many threads, processes and machines."""
    cells = (key_of(name), *answer[:4], ";".join(sorted(answer.formats)))
    append_csv(Path(directory, FILE), dict(zip(_COLUMNS, cells, strict=True)))


def key_of(name: object) -> str:
    """How the table spells a name: bytes of file names that are no text become ``\\udcxx``."""
    return str(name).encode("utf-8", "backslashreplace").decode()


def question_digest(content: Mapping[str, Any]) -> str:
    """16 digits of what a question is made of, JSON-able."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


def add_question(directory: str | Path, content: Mapping[str, Any]) -> None:
    """Keep what a question is made of, once."""
    digest, path = question_digest(content), Path(directory, QUESTIONS)
    if digest not in dict(_questions(path)):
        append_line(path, json.dumps({"digest": digest, "question": content}, sort_keys=True, default=str))


def what_differs(directory: str | Path, one: str, two: Mapping[str, Any]) -> list[str]:
    """The parts in which a kept question differs from a content; empty where it is not known."""
    a = dict(_questions(Path(directory, QUESTIONS))).get(one)
    if a is None:
        return []
    b = json.loads(json.dumps(two, default=str))
    return sorted(key for key in {*a, *b} if a.get(key) != b.get(key))


def _questions(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with suppress(FileNotFoundError):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError, KeyError, TypeError):
                entry = json.loads(line)
                yield entry["digest"], entry["question"]


def picture_state(location: str) -> str:
    """Size, time and content digest of a picture's file; "" for a URL, and for a file that is not there."""
    if is_url(location):
        return ""
    try:
        state = os.stat(location)
        return f"{state.st_size}-{state.st_mtime_ns}-{_digest(location, state.st_size)}"
    except OSError:
        return ""


def same_picture(answer: Answer, location: str) -> bool:
    """Whether the picture is the one of the answer: equal size and time, or equal content.

    What cannot be looked at (URLs, files that are gone) counts as the same where it has the same place.
    """
    try:
        state = None if is_url(location) else os.stat(location)
    except OSError:
        state = None
    if state is None or not answer.picture:
        return answer.place == identity(location)
    size, time, digest = answer.picture.split("-")
    if int(size) != state.st_size:
        return False
    return int(time) == state.st_mtime_ns or digest == _digest(location, state.st_size)


def _digest(path: str, size: int) -> str:
    digest = hashlib.blake2b(digest_size=8)
    with open(path, "rb") as file:
        digest.update(file.read(_WHOLE_FILE))
        if size > _WHOLE_FILE:
            file.seek(max(_WHOLE_FILE, size - _WHOLE_FILE))
            digest.update(file.read(_WHOLE_FILE))
    return digest.hexdigest()


def _size_and_digest(answer: Answer) -> Sequence[str]:
    parts = answer.picture.split("-")
    return parts[:1] + parts[2:]
