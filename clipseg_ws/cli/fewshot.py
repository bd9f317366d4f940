"""The command ``fewshot``; its body imports what it needs, so that ``--help`` stays light."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clipseg_ws.cli.asking import Asked, ask, read_labels
from clipseg_ws.cli.folder import FolderOptions
from clipseg_ws.cli.grouping import grouped
from clipseg_ws.cli.groups import ExampleOptions, MethodOptions, NameOptions, WeakOptions
from clipseg_ws.cli.options import option
from clipseg_ws.cli.supports import any_examples, make_examples, read_supports

if TYPE_CHECKING:
    from clipseg_ws.fewshot.bank import SupportBank
    from clipseg_ws.pictures.sources import Source
    from clipseg_ws.run.tracking import Tracker
    from clipseg_ws.segmenter import Segmenter

Queries = Annotated[
    list[str] | None,
    typer.Argument(help="Files, folders, globs, list.txt files, URLs, as for predict. None: only make the bank."),
]
Track = Annotated[bool, option("--track", help="The pictures are a sequence: sure frames become examples too.")]
Every = Annotated[int, option("--every", min=1, help="With --track: each so many-th frame may join.")]


@grouped
def fewshot(
    queries: Queries = None, *, examples: ExampleOptions, names: NameOptions, weak: WeakOptions, track: Track = False,
    every: Every = 5, model: MethodOptions, folder: FolderOptions,
) -> None:  # fmt: skip
    """Find in pictures what examples show: pictures with a mask of the thing, with or without its name."""
    if track and (folder.engine != "local" or folder.part[1] > 1):
        raise ValueError("--track goes from frame to frame: it needs --engine local and no --shard")
    given = read_supports(examples)
    if not any_examples(examples):
        raise ValueError("no examples; pass --support a.jpg a.png cat, --support-dir examples/ or --bank FILE")
    found = folder.sources(queries) if queries else []
    labels = read_labels(found, names, weak)
    segmenter = model.segmenter(batch_size=1) if track else model.segmenter()
    bank = make_examples(segmenter, given, examples.bank)
    typer.echo(f"examples: {', '.join(f'{label} ({count})' for label, count in bank.shots().items())}")
    if not found:
        return
    asked = ask(segmenter, found, names, labels, bank)
    tracker = make_tracker(segmenter, bank, asked, every, found, folder) if track else None

    def show(source: Any, result: Any) -> None:
        if tracker is not None:
            tracker.seen(source, result)
        for name, iou in result.extras.get("supports", ()):
            if iou < 0.3:
                typer.echo(f"{source}: example {name} does not fit (alignment {iou:.2f})")

    question = asked.question if tracker is None else tracker.question
    known: dict[str, Any] = {"tags": asked.tags, "weak": asked.weak}
    if tracker is not None:
        known["about"] = tracker.about()
        tracker.restore(folder.kept(segmenter, found, question, **known))
    summary = folder.segment(segmenter, found, question, on_result=show, **known)
    if tracker is not None and examples.bank is not None:
        tracker.bank().save(examples.bank)
    folder.report(summary)


def make_tracker(
    segmenter: Segmenter, bank: SupportBank, asked: Asked, every: int, frames: Sequence[Source], folder: FolderOptions
) -> Tracker:
    """A bank that grows along the sequence."""
    from clipseg_ws.run.tracking import Tracker

    return Tracker(
        segmenter, bank, asked.question, every=every, frames=frames, file=folder.output / "track.safetensors"
    )
