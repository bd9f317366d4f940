"""The command ``demo``: a drawn scene in files, or the page with --web. Its body imports what it needs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from clipseg_ws.cli.options import Device, Dtype, Model, Offline, Seed, option

Output = Annotated[Path, option("-o", "--output", help="Folder for the pictures.")]
Size = Annotated[int, option("--size", min=64, max=1024, help="Side of the drawn picture in pixels.")]
Web = Annotated[bool, option("--web", help="Open a page to try it; needs the extra demo.")]
Host = Annotated[str, option("--host", help="With --web: address to listen on.")]
Port = Annotated[int | None, option("--port", help="With --web: by default the first free one from 7860 on.")]
Share = Annotated[bool, option("--share", help="With --web: let anybody on the internet in, through gradio's tunnel.")]
Browser = Annotated[bool, option("--browser/--no-browser", help="With --web: open the browser.")]


def demo(
    output: Output = Path("clipseg_ws_demo"), seed: Seed = 10_000_007, size: Size = 224, web: Web = False,
    model: Model = "nano", device: Device = "auto", dtype: Dtype = "auto", offline: Offline = False,
    host: Host = "127.0.0.1", port: Port = None, share: Share = False, browser: Browser = True,
) -> None:  # fmt: skip
    """Draw a scene, segment it by names and by tags with the embedded model, write pictures. Needs no network."""
    if web:
        from clipseg_ws.web.server import serve

        serve(
            typer.echo, model=model, host=host, port=port, share=share, browser=browser, device=device, dtype=dtype,
            offline=offline,
        )  # fmt: skip
        return
    for line in run_demo(output, seed=seed, size=size):
        typer.echo(line)


def run_demo(directory: Path, *, seed: int, size: int) -> Iterator[str]:
    """Draw a scene, segment it in both settings, write pictures; yields the lines to print.

    Writes ``scene.png``, ``truth.png`` (palette), and for each setting what ``Segmentation.save`` writes.
    """
    from PIL import Image

    from clipseg_ws.embedded.nano.scenes import KINDS, draw_scene
    from clipseg_ws.eval.metrics import ConfusionMatrix
    from clipseg_ws.files import atomic_write
    from clipseg_ws.output.formats.png import write_label_png
    from clipseg_ws.output.table import format_table
    from clipseg_ws.segmenter import Segmenter

    scene = draw_scene(seed, size)
    picture = Image.fromarray(scene.image)
    with atomic_write(directory / "scene.png") as path:
        picture.save(path, format="PNG")
    write_label_png(scene.labels, directory / "truth.png", classes=len(KINDS))
    yield f"a drawn scene (seed {seed}): {', '.join(scene.tags)} on {scene.background}"
    segmenter = Segmenter("nano", cache_mb=64)
    for title, stem, tags in (("by names, all 12 given", "by_names", None), ("by tags", "by_tags", list(scene.tags))):
        (result,) = segmenter.answer(segmenter.ask(list(KINDS)), [picture], tags=None if tags is None else [tags])
        matrix = ConfusionMatrix(len(KINDS) + 1)
        matrix.update(result.labels, scene.labels)
        yield ""
        yield f"{title}: mIoU {matrix.compute()['mIoU']:.3f} on this scene"
        yield format_table(result)
        result.save(directory, stem=stem)
    yield ""
    yield f"pictures are in {directory}/: scene.png, truth.png, by_names_overlay.png, by_tags_overlay.png, ..."
    yield 'next: clipseg-ws predict photo.jpg -c "cat; sofa" (fetches a CLIP trained on photos)'
