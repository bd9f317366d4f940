"""The command ``demo``: a drawn scene in files, or the page with --web. Its body imports what it needs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clipseg_ws.cli.options import Device, Dtype, Offline


def demo(
    output: Annotated[Path, typer.Option("-o", "--output")] = Path("clipseg_ws_demo"),
    seed: Annotated[int, typer.Option(help="Which scene to draw (held-out seeds start at 10000000).")] = 10_000_007,
    size: Annotated[int, typer.Option(min=64, max=1024, help="Side of the drawn picture in pixels.")] = 224,
    web: Annotated[bool, typer.Option("--web", help="Open a page to try it; needs the extra demo.")] = False,
    model: Annotated[
        str, typer.Option(help='With --web: "nano", "ARCH/PRETRAINED", "hf:REPO" or "local-dir:PATH".')
    ] = "nano",
    device: Device = "auto",
    dtype: Dtype = "auto",
    offline: Offline = False,
    host: Annotated[str, typer.Option(help="With --web: address to listen on.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(help="With --web: by default the first free one from 7860 on.")] = None,
    share: Annotated[
        bool, typer.Option("--share", help="With --web: let anybody on the internet in, through gradio's tunnel.")
    ] = False,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="With --web: open the browser.")] = True,
) -> None:
    """Draw a scene, segment it by names and by tags with the embedded model, write pictures. Needs no network."""
    if web:
        from clipseg_ws.web.server import serve

        serve(
            typer.echo, model=model, host=host, port=port, share=share, browser=browser, device=device, dtype=dtype,
            offline=offline,
        )  # fmt: skip
        return
    from clipseg_ws.cli.demo_files import run_demo

    for line in run_demo(output, seed=seed, size=size):
        typer.echo(line)
