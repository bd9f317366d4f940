"""The commands ``bench model`` (which ``bench`` means), ``bench eval``, ``bench fewshot`` and ``bench heads``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clipseg_ws.cli.bench_heads import bench_heads
from clipseg_ws.cli.default_command import DefaultGroup
from clipseg_ws.cli.options import Device, Root, Workers, option


class ModelByDefault(DefaultGroup):
    """``clipseg-ws bench …`` is ``clipseg-ws bench model …``."""

    first, alone = "model", True


bench_app = typer.Typer(
    cls=ModelByDefault, help="Measure speed on this machine: clipseg-ws bench, clipseg-ws bench eval."
)
bench_app.command("heads")(bench_heads)
Architecture = Annotated[str, option("--model", help="open_clip architecture; its weights are random.")]
Rounds = Annotated[int, option("--rounds", min=1, help="Calls that each median is over.")]


@bench_app.command("eval")
def bench_eval(
    root: Root = None,
    count: Annotated[int, option("--count", min=1, help="Masks to draw where no --root is given.")] = 600,
    workers: Workers = 2,
) -> None:
    """Pictures a second of the harness itself, with perfect predictions read from disk."""
    from clipseg_ws.eval.bench.harness import bench_eval as measure

    result = measure(root, count=count, workers=workers)
    typer.echo(f"{result['images']} pictures of VOC size, {result['cores']} cores, mIoU {result['mIoU']}")
    for name, title in (("plain", "scores"), ("with_boundary", "with boundary IoU")):
        typer.echo(f"{title}: {result[name]} pictures a second, {result[f'{name}_cpu_ms']} ms of processor time each")
    typer.echo(f"target: {result['target']:.0f} a second")
    if result["plain"] < result["target"]:
        raise typer.Exit(1)


@bench_app.command("model")
def bench_model(
    model: Architecture = "ViT-B-16-quickgelu",
    device: Device = "auto",
    dtype: Annotated[str, option("--dtype", help="float32, bfloat16; commas between.")] = "float32,bfloat16",
    batch: Annotated[str, option("--batches", help="Pictures a call; commas between, e.g. 1,8,32,128.")] = "1",
    classes: Annotated[str, option("--class-counts", help="Numbers of classes K; commas between.")] = "2,20",
    rounds: Rounds = 7,
    threads: Annotated[int | None, option("--threads", min=1, help="Of torch; its own choice by default.")] = None,
    compile: Annotated[bool, option("--compile", help="Compile the blocks of the whole call.")] = False,
    parts: Annotated[bool, option("--parts", help="Time of every part.")] = False,
    memory: Annotated[bool, option("--memory", help="Peak memory for three picture sizes, K = 2 to 1,000.")] = False,
    agreement: Annotated[bool, option("--agreement", help="Share of equal labels in bfloat16 and float32.")] = False,
    photos: Annotated[Path | None, option("--photos", help="Photos for --agreement, beside drawn scenes.")] = None,
    output: Annotated[Path | None, option("-o", "--output", help="Folder for the tables as CSV files.")] = None,
) -> None:
    """The cost of segmenting beside the bare backbone, interleaved in one run; Markdown, then CSV."""
    options = dict(locals())
    from clipseg_ws.eval.bench.parts import run_bench

    run_bench(options, typer.echo)


@bench_app.command("fewshot")
def bench_fewshot(
    model: Architecture = "ViT-B-16-quickgelu",
    device: Device = "auto",
    dtype: Annotated[str, option("--dtype", help="float32 or bfloat16.")] = "float32",
    ways: Annotated[int, option("--ways", min=1, help="Classes.")] = 3,
    shots: Annotated[int, option("--shots", min=1, help="Examples of each.")] = 5,
    rounds: Rounds = 7,
) -> None:
    """What a bank of examples adds to a query, interleaved in one run."""
    from clipseg_ws.eval.bench.fewshot import bench_fewshot as measure
    from clipseg_ws.eval.bench.model import comma_separated, markdown

    rows = measure(model, device=device, dtype=dtype, ways=ways, shots=shots, rounds=rounds)
    typer.echo(markdown(rows) + "\n\n" + comma_separated(rows))
