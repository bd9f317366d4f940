"""The command ``serve``; its body imports what it needs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from clipseg_ws.cli.grouping import grouped
from clipseg_ws.cli.groups import MethodOptions
from clipseg_ws.cli.options import Head, Host, Port, option

TOKEN = "LABEL_STUDIO_API_KEY"

Allow = Annotated[
    list[str] | None, option("--allow", help="A further name under which it may be asked. Repeatable.")
]  # fmt: skip
MostBytes = Annotated[int, option("--most-bytes", min=1, help="Of one request.")]
MostPixels = Annotated[int, option("--most-pixels", min=1, help="Of one picture, before it is decoded.")]
MostNames = Annotated[int, option("--most-names", min=1, max=300, help="Classes of one request.")]
Waiting = Annotated[int, option("--waiting", min=1, help="Requests at a time, the one being answered included.")]
LabelStudio = Annotated[
    str | None,
    option("--label-studio", help=f"Address of a Label Studio whose backend this is; its token stands in ${TOKEN}."),
]
Files = Annotated[
    Path | None,
    option("--label-studio-files", help="Folder that its local storage serves; else files come from Label Studio."),
]


@grouped
def serve(
    *, model: MethodOptions, head: Head = None, host: Host = "127.0.0.1", port: Port = None, allow: Allow = None,
    most_bytes: MostBytes = 30_000_000, most_pixels: MostPixels = 64_000_000, most_names: MostNames = 300,
    waiting: Waiting = 8, label_studio: LabelStudio = None, label_studio_files: Files = None,
) -> None:  # fmt: skip
    """Answer HTTP requests (POST /segment), and Label Studio with --label-studio. See docs/service.md."""
    from clipseg_ws.service.gate import Limits
    from clipseg_ws.service.server import PORT
    from clipseg_ws.service.server import serve as answer

    if label_studio is None and label_studio_files is not None:
        raise ValueError("--label-studio-files belongs to --label-studio, for example http://localhost:8080")
    limits = Limits(most_bytes, most_pixels, most_names, waiting)
    answer(
        typer.echo, model.segmenter(head=head), host=host, port=PORT if port is None else port,
        allow=allow or (), limits=limits,
        label_studio=label_studio, token=os.environ.get(TOKEN, ""), folder=label_studio_files,
    )  # fmt: skip
