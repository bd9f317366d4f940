"""The command ``bench heads``; its body imports what it needs, so that ``--help`` stays light."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clipseg_ws.cli.options import Device, Dtype
from clipseg_ws.cli.train import Kind, numbers


def bench_heads(
    model: Annotated[str, typer.Option(help='A model\'s name, or "random-vit-b-16": ViT-B/16 with random weights.')] = (
        "random-vit-b-16"
    ),
    pictures: Annotated[int, typer.Option(min=1, help="Pictures whose tokens are cached.")] = 16,
    side: Annotated[int, typer.Option(min=32, help="Side of the pictures in pixels.")] = 224,
    batches: Annotated[str, typer.Option(help="Batch sizes, commas between.")] = "1,4",
    steps: Annotated[int, typer.Option(min=1, help="Training steps a batch size.")] = 5,
    kind: Kind = "decoder",
    device: Device = "auto",
    dtype: Dtype = "auto",
    output: Annotated[Path | None, typer.Option("-o", "--output", help="CSV to write the table to.")] = None,
) -> None:
    """Tokens cached and a head trained: pictures a second against the bare forward, and memory, by batch size."""
    from clipseg_ws.eval.bench.heads import bench
    from clipseg_ws.eval.tables import write_table

    sizes = numbers("batches", batches, int, "1,4")
    rows = []
    for row in bench(
        model, pictures=pictures, side=side, batches=sizes, steps=steps, kind=kind, device=device, dtype=dtype
    ):
        rows.append(row)
        typer.echo("  ".join(f"{key} {value}" for key, value in row.items()))
        if output is not None:
            write_table(output, tuple(row), rows)
