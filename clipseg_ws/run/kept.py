"""Which results of earlier runs are answers to what is asked now, and which places a run may write to."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from clipseg_ws.output.answers import Answer, key_of, read_answers, same_picture, what_differs
from clipseg_ws.output.save import is_whole, output_paths
from clipseg_ws.pictures.sources import Source, is_url
from clipseg_ws.pictures.written import is_output, was_written
from clipseg_ws.run.plan import Plan
from clipseg_ws.together import remove


@dataclass
class Kept:
    """Sources sorted: what must be done, and why files that are there do not count.

    Attributes:
        todo: in order. again: source -> why it is done again although files of it are there.
    """

    todo: list[Source] = field(default_factory=list)
    again: dict[Source, str] = field(default_factory=dict)

    def lines(self) -> Iterator[str]:
        """ "12 done again: labels changed", a line a reason."""
        for reason, count in Counter(self.again.values()).most_common():
            yield f"{count} done again: {reason}"


def sort_out(job: Plan, sources: Sequence[Source], *, overwrite: bool = False) -> Kept:
    """Which pictures must be done: those without files, and those whose files answer another question.

    A file counts where its folder's table (``output.answers``) says that it answers this question about this picture
    with these labels, in the formats that are asked for.

    Raises:
        ValueError: two pictures whose results have one place; a result that would replace a picture of the run, or a
            picture's result of another run, or a file that the product did not write (the last two not with
            ``overwrite``).
    """
    places = _Places(job, sources)
    answers, kept, changes = read_answers(job.directory), Kept(), dict[str, str]()
    for source in sources:
        paths = places.of(source)
        there = [path for path in paths if is_whole(path)]
        answer = answers.get(key_of(source.relative))
        if there and not overwrite:
            _spare(source, there, answer, places)
        reason = "" if len(there) < len(paths) else _reason(job, source, answer, changes)
        if overwrite or reason or len(there) < len(paths):
            kept.todo.append(source)
        if reason and not overwrite:
            kept.again[source] = reason
    return kept


def kept_sources(job: Plan, sources: Sequence[Source]) -> set[str]:
    """Locations of the pictures whose results stay as they are."""
    todo = set(sort_out(job, sources).todo)
    return {str(source) for source in sources if source not in todo}


def drop(job: Plan, source: Source) -> None:
    """Remove the files of a picture: they answer another question, and none could be made for this one."""
    for path in output_paths(job.directory, source.relative, job.formats):
        remove(path)


def _reason(job: Plan, source: Source, answer: Answer | None, changes: dict[str, str]) -> str:
    """Why files that are there are no answer; "" where they are. ``changes``: by question, for all pictures."""
    if answer is None:
        return "not known what they answer"
    try:
        labels = job.labels_of(source)
    except ValueError:
        return "labels changed"  # it fails in its turn, and says why
    if answer.question != job.asked:
        if answer.question not in changes:
            differing = what_differs(job.directory, answer.question, job.content)
            changes[answer.question] = f"other {', '.join(differing)}" if differing else "another question"
        return changes[answer.question]
    if answer.labels != labels:
        return "labels changed"
    if not same_picture(answer, job.place_of(source)):
        return "picture changed"
    return "" if set(job.wanted) <= answer.formats else "formats changed"


class _Places:
    """Where results go; checked against one another and against the pictures of the run."""

    def __init__(self, job: Plan, sources: Sequence[Source]) -> None:
        self.job, self.root = job, Path(os.path.realpath(job.directory))
        self.marked = is_output(self.root) or is_output(self.root.parent)
        pictures, owner = _pictures(job, sources), dict[str, Source]()
        for source in sources:
            for path in self.of(source):
                place = str(path)
                if place in pictures:
                    raise ValueError(
                        f"{pictures[place]!r} would be overwritten by the result {path.name!r} of {str(source)!r}; "
                        "choose another output folder"
                    )
                other = owner.setdefault(place, source)
                if other is not source:
                    raise ValueError(
                        f"{str(other)!r} and {str(source)!r} would both be written to {place!r}; list them in one "
                        "call of list_sources, which gives them distinct names"
                    )

    def of(self, source: Source) -> list[Path]:
        """The files of a picture, without links in the folder's own path."""
        return output_paths(self.root, source.relative, self.job.formats)


def _pictures(job: Plan, sources: Iterable[Source]) -> dict[str, str]:
    """Real path -> location, of the pictures that are files and of the folders that they lie in."""
    folders: dict[str, str] = {}
    found: dict[str, str] = {}
    for source in sources:
        if not is_url(str(source)):
            place = job.place_of(source)
            head, tail = os.path.split(place)
            real = folders.setdefault(head, "") or os.path.realpath(head)
            folders[head] = real
            found[os.path.join(real, tail)] = str(source)
            found.setdefault(real, str(source))
    return found


def _spare(source: Source, there: Sequence[Path], answer: Answer | None, places: _Places) -> None:
    """Raise ValueError where files are somebody else's, or those of another picture that is still there."""
    if answer is None:
        strange = [path for path in there if not (places.marked or was_written(path))]
        if strange and len(strange) == len(there):
            raise ValueError(
                f"{str(strange[0])!r} is there and nothing says that clipseg-ws wrote it; choose another output "
                "folder, or --overwrite to replace such files"
            )
        return
    here = places.job.place_of(source)
    if answer.place != here and os.path.exists(answer.place) and not _same_file(answer.place, here):
        raise ValueError(
            f"{str(there[0])!r} is the result of {answer.place!r}, and {str(source)!r} would replace it; choose "
            "another output folder, give both in one call (they then get distinct names), or --overwrite"
        )


def _same_file(one: str, two: str) -> bool:
    return os.path.exists(two) and os.path.samefile(one, two)
