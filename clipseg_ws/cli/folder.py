"""Options of a run over a folder, and the run: this shard's pictures, the whole folder's data sets, the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from clipseg_ws.cli.options import Engine, Formats, Limit, Overwrite, Results, Shard, Sheet, Workers
from clipseg_ws.output.formats import split_formats
from clipseg_ws.registry import find, split_outside
from clipseg_ws.run import ENGINES
from clipseg_ws.run.shards import parse_shard, shard_of

if TYPE_CHECKING:
    from clipseg_ws.cli.groups import MethodOptions, NameOptions
    from clipseg_ws.output.datasets import Written
    from clipseg_ws.pictures.sources import Source
    from clipseg_ws.run.job import Asked
    from clipseg_ws.run.summary import Summary
    from clipseg_ws.segmenter import Segmenter
    from clipseg_ws.weak.label_files import LabelFiles


@dataclass(frozen=True)
class FolderOptions:
    """Which pictures, where to, and how; what cannot be is refused before a picture is read."""

    output: Results = Path("clipseg_ws_out")
    format: Formats = "png,overlay,json"
    sheet: Sheet = False
    limit: Limit = None
    shard: Shard = "1/1"
    workers: Workers = 2
    engine: Engine = "local"
    overwrite: Overwrite = False

    def __post_init__(self) -> None:
        parse_shard(self.shard)
        if self.sheet and not any(text.partition("(")[0] == "sheet" for text in split_outside(self.format, ",")):
            object.__setattr__(self, "format", f"{self.format},sheet")
        split_formats(self.format)
        find(ENGINES, self.engine, "engine").check_installed()

    def sources(self, places: Sequence[str]) -> list[Source]:
        """The pictures of all shards together."""
        from clipseg_ws.pictures.sources import list_sources

        return list_sources(places, output=self.output)[: self.limit]

    @property
    def part(self) -> tuple[int, int]:
        """(i, n) of the shard, i from 1."""
        return parse_shard(self.shard)

    @property
    def errors_file(self) -> Path:
        """Where failures are listed: one file a shard."""
        number, of = self.part
        return self.output / ("errors.csv" if of == 1 else f"errors-{number}-of-{of}.csv")

    def segment(self, segmenter: Segmenter, sources: Sequence[Source], question: Asked, **more: Any) -> Summary:
        """Segment the pictures of the shard and write their files; without shards those of the whole folder too.

        ``more`` as for ``run_folder``.
        """
        from clipseg_ws.pictures.written import mark_output
        from clipseg_ws.run.folder import run_folder

        pictures, _ = split_formats(self.format)
        mark_output(self.output)
        summary = run_folder(
            segmenter, shard_of(sources, self.part), self.output, question, formats=pictures, overwrite=self.overwrite,
            workers=self.workers, engine=self.engine, errors_file=self.errors_file, say=typer.echo, **more,
        )  # fmt: skip
        self._whole_folder(sources, (question() if callable(question) else question).vocabulary.names)
        return summary

    def finished(
        self, model: MethodOptions, sources: Sequence[Source], names: NameOptions, labels: LabelFiles | None
    ) -> Summary | None:
        """What ``segment`` would report where nothing is left to do, without loading the model; else None, and where
        only the model can tell: with settings, a head or a second model.
        """
        from clipseg_ws.run.ahead import finished
        from clipseg_ws.run.plan import names_in

        if self.overwrite or model.model is None or not model.usual:
            return None
        known: dict[str, Any] = {}
        if labels is not None and labels.marks:
            known = {"weak": labels.labels, "spoken": [labels.names()]}
        elif labels is not None:
            known = {"tags": labels.tags, "spoken": names_in(labels.tags, sources)}
        found = finished(
            shard_of(sources, self.part), self.output, model=model.model, method=model.method, given=model.own,
            classes=names.classes, background=names.background, formats=split_formats(self.format)[0], **known,
        )  # fmt: skip
        if found is None:
            return None
        self.errors_file.unlink(missing_ok=True)
        self._whole_folder(sources, found.names)
        return found.summary

    def _whole_folder(self, sources: Sequence[Source], names: Sequence[str]) -> None:
        """The formats of the whole folder, where these are no shards."""
        pictures, datasets = split_formats(self.format)
        if datasets and self.whole("--format " + ",".join(datasets)):
            from clipseg_ws.output.datasets import written

            self.write_datasets(datasets, names, written(sources, self.output, pictures))

    def kept(self, segmenter: Segmenter, sources: Sequence[Source], question: Asked, **more: Any) -> set[str]:
        """Locations of the pictures whose results ``segment`` would keep; ``more`` as for ``make_job``."""
        from clipseg_ws.run.folder import make_job
        from clipseg_ws.run.kept import kept_sources

        if self.overwrite:
            return set()
        pictures, _ = split_formats(self.format)
        return kept_sources(make_job(segmenter, self.output, question, formats=pictures, **more), sources)

    def whole(self, what: str) -> bool:
        """Whether this is no shard; else says that ``what`` looks at the whole folder."""
        if self.part[1] > 1:
            typer.echo(f"{what} looks at the whole folder: run again without --shard when all shards are done")
        return self.part[1] == 1

    def write_datasets(self, datasets: Sequence[str], names: Sequence[str], entries: Sequence[Written]) -> None:
        """The whole folder once more, as COCO and so on."""
        from clipseg_ws.output.datasets import write_datasets

        for path in write_datasets(datasets, self.output, names, entries):
            typer.echo(f"{len(entries)} pictures in {path}")

    def report(self, summary: Summary) -> None:
        """The closing lines of a folder run; exit code 1 where pictures failed."""
        typer.echo(
            f"{summary.done} done, {summary.skipped} already there, {summary.failed} failed, of {summary.total}; "
            f"files in {self.output}"
        )
        if summary.done:
            typer.echo(f"{summary.done / max(summary.seconds, 1e-9):.2f} pictures a second, model loading left out")
        if summary.done > 4:
            total = sum(summary.pixels.values())
            for name, count in summary.pixels.most_common():
                typer.echo(f"  {name:<24} {summary.pictures[name]:>7} pictures {count / total:>7.1%} of the pixels")
        if summary.skipped and not summary.done:
            typer.echo("the same question about the same pictures: nothing was done again (--overwrite does it)")
        fail_where(summary, self.errors_file)


def fail_where(summary: Summary, errors_file: Path) -> None:
    """Classes without a pixel and why pictures failed; exit code 1 where some did, with the file that lists them."""
    for line in summary.remarks():
        typer.echo(line, err=True)
    if summary.failed:
        typer.echo(f"failures are listed in {errors_file}", err=True)
        raise typer.Exit(1)
