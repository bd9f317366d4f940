"""The question of a command: names, examples, tags and marks together, as in Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from clipseg_ws.cli.groups import NameOptions, WeakOptions

if TYPE_CHECKING:
    from clipseg_ws.fewshot.bank import SupportBank
    from clipseg_ws.pictures.sources import Source
    from clipseg_ws.run.plan import Tags, Weak
    from clipseg_ws.segmenter import Segmenter
    from clipseg_ws.stages.question import Question
    from clipseg_ws.weak.label_files import LabelFiles


@dataclass(frozen=True)
class Asked:
    """What is looked for, and what is known of each picture: ``tags`` or ``weak``, or neither."""

    question: Question
    tags: Tags | None = None
    weak: Weak | None = None


def read_labels(sources: Sequence[Source], names: NameOptions, weak: WeakOptions) -> LabelFiles | None:
    """What --tags and --marks hold, in the spelling of the classes where these were given; None for neither option.

    What fits no picture, and pictures without an entry, are said on stderr.

    Raises ValueError for a name that is none of the classes, FileNotFoundError for a missing file.
    """
    from clipseg_ws.text.vocabulary import parse_classes
    from clipseg_ws.weak.label_files import read_label_files

    wanted = None if names.classes is None else parse_classes(names.classes)  # before any model is loaded
    if not weak.given:
        return None
    labels = read_label_files(weak.tags, weak.marks or (), sources, wanted)
    for line in labels.report:
        typer.echo(line, err=True)
    return labels


def ask(
    segmenter: Segmenter,
    sources: Sequence[Source],
    names: NameOptions,
    labels: LabelFiles | None,
    bank: SupportBank | None = None,
) -> Asked:
    """Names, examples, tags and marks as ``Segmenter.ask`` takes them; without names those that the labels use.

    Args:
        sources: all pictures, whatever shard is done: all shards ask the same.

    Raises:
        ValueError: no classes, a label of a class without example, what ``Segmenter.ask`` refuses.
    """
    from clipseg_ws.run.plan import names_in

    if labels is None:
        return Asked(segmenter.ask(names.classes, names.background, supports=bank))
    spoken = [labels.names()] if labels.marks else names_in(labels.tags, sources)
    check_examples(names, bank, spoken[0])
    question = segmenter.ask(names.classes, names.background, supports=bank, tags=spoken)
    return Asked(question, weak=labels.labels) if labels.marks else Asked(question, tags=labels.tags)


def check_examples(names: NameOptions, bank: SupportBank | None, spoken: Sequence[str]) -> None:
    """Raise ValueError where the examples answer alone and the labels speak of a class that none of them shows."""
    if bank is None or names.classes is not None:
        return
    shown = {label.casefold() for label in bank.labels}
    missing = sorted({name for name in spoken if name.casefold() not in shown})
    if missing:
        raise ValueError(
            f"--tags and --marks name {', '.join(missing)}, of which there is no example ({', '.join(bank.labels)}); "
            "pass -c with all classes, or leave these labels out"
        )
