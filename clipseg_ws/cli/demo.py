"""The command ``demo``: photos or drawn scenes in files, or the page with --web. Its body imports what it needs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clipseg_ws.cli.options import Device, Dtype, Host, Offline, Port, Seed, option

Output = Annotated[Path, option("-o", "--output", help="Folder for the pictures.")]
Scenes = Annotated[bool, option("--scenes", help="Drawn scenes, with the model that knows them, in place of photos.")]
Size = Annotated[int, option("--size", min=64, max=1024, help="With --scenes: side of the drawn picture in pixels.")]
Web = Annotated[bool, option("--web", help="Open a page to try it; needs the extra demo.")]
Model = Annotated[str | None, option("--model", help="By default photo, for drawn scenes nano; any model's name.")]
Share = Annotated[bool, option("--share", help="With --web: let anybody on the internet in, through gradio's tunnel.")]
Browser = Annotated[bool, option("--browser/--no-browser", help="With --web: open the browser.")]

ONLY_WEB = ("host", "port", "share", "browser")
ONLY_SCENES = ("seed", "size")
NEVER_WEB = ("output", "scenes", *ONLY_SCENES)


def demo(
    ctx: typer.Context, output: Output = Path("clipseg_ws_demo"), scenes: Scenes = False, seed: Seed = 10_000_007,
    size: Size = 224, web: Web = False, model: Model = None, device: Device = "auto", dtype: Dtype = "auto",
    offline: Offline = False, host: Host = "127.0.0.1", port: Port = None, share: Share = False,
    browser: Browser = True,
) -> None:  # fmt: skip
    """Segment photos that come with the package: by names, by one example, by a box. Needs no network."""
    _check(ctx, web, scenes)
    if web:
        from clipseg_ws.web.server import serve

        serve(
            typer.echo, model=model or "photo", host=host, port=port, share=share, browser=browser, device=device,
            dtype=dtype, offline=offline,
        )  # fmt: skip
        return
    options = {"device": device, "dtype": dtype, "offline": offline}
    if scenes:
        from clipseg_ws.cli.demo_scenes import run_scenes

        lines = run_scenes(output, model or "nano", seed=seed, size=size, **options)
    else:
        from clipseg_ws.cli.demo_photos import run_photos

        lines = run_photos(output, model or "photo", **options)
    for line in lines:
        typer.echo(line)


def _check(ctx: typer.Context, web: bool, scenes: bool) -> None:
    """Raises ValueError for an option that would change nothing."""
    given = {name for name in ctx.params if getattr(ctx.get_parameter_source(name), "name", "") == "COMMANDLINE"}
    if web and (idle := [name for name in NEVER_WEB if name in given]):
        raise ValueError(f"--{idle[0]} changes nothing with --web; leave one out, for example clipseg-ws demo --web")
    if not web and (idle := [name for name in ONLY_WEB if name in given]):
        raise ValueError(f"--{idle[0]} belongs to the page; add --web, for example clipseg-ws demo --web")
    if not web and not scenes and (idle := [name for name in ONLY_SCENES if name in given]):
        raise ValueError(
            f"--{idle[0]} belongs to drawn scenes; add --scenes, for example clipseg-ws demo --scenes --{idle[0]} 300"
        )
