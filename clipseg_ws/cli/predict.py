"""The command ``predict``; its body imports what it needs, so that ``--help`` stays light."""

from __future__ import annotations

from functools import partial
from typing import Any

import typer

from clipseg_ws.cli.asking import ask, read_labels
from clipseg_ws.cli.folder import FolderOptions
from clipseg_ws.cli.grouping import grouped
from clipseg_ws.cli.groups import MethodOptions, NameOptions, WeakOptions
from clipseg_ws.cli.options import Head, Pictures, Shards
from clipseg_ws.cli.shards import predict_shards


@grouped
def predict(
    pictures: Pictures, *, names: NameOptions, weak: WeakOptions, model: MethodOptions, head: Head = None,
    shards: Shards = None, folder: FolderOptions,
) -> None:  # fmt: skip
    """Segment pictures by class names, or by image tags, boxes, points and scribbles with --tags and --marks."""
    from clipseg_ws.output.table import format_table

    if shards is not None:
        predict_shards(pictures, names, weak, partial(model.segmenter, head=head), folder, shards)
        return
    found = folder.sources(pictures)
    labels = read_labels(found, names, weak)
    if head is None:  # a head names its model
        model = model.named()
        if (done := folder.finished(model, found, names, labels)) is not None:
            folder.report(done)
            return
    segmenter = model.segmenter(head=head)
    asked = ask(segmenter, found, names, labels)

    def show(source: Any, result: Any) -> None:
        if len(found) <= 4:
            typer.echo(f"{source}\n{format_table(result)}")

    summary = folder.segment(segmenter, found, asked.question, tags=asked.tags, weak=asked.weak, on_result=show)
    folder.report(summary)
