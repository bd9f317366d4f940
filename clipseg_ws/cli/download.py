"""The command ``download``."""

from __future__ import annotations

from typing import Annotated

import typer

from clipseg_ws.backbones import FAMILIES

_FETCHED = ", ".join(repr(entry.about["form"]) for entry in FAMILIES.values() if "fetch" in entry.about)
Name = Annotated[str, typer.Argument(help=f"A model's name: {_FETCHED}.")]


def download(model: Name) -> None:
    """Fetch a model's weights into the cache, so that --offline works afterwards."""
    from clipseg_ws.backbones import download as fetch

    for path in fetch(model):
        typer.echo(str(path))
