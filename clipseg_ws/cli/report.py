"""The command ``report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Tables = Annotated[Path, typer.Argument(help="Folder that clipseg-ws eval wrote.")]
Pages = Annotated[
    Path | None, typer.Option("-o", "--output", help="Folder for report.md and report.html; by default the same.")
]


def report(results: Tables = Path("results"), output: Pages = None) -> None:
    """A Markdown and an HTML page: the runs beside the published numbers, with warnings where protocols differ."""
    from clipseg_ws.eval.report.writer import write_report

    for path in write_report(results, output):
        typer.echo(str(path))
