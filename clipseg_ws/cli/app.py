"""The command line ``clipseg-ws``: a thin client of the public API. Command bodies import what they need."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from clipseg_ws.cli.bench import bench_app
from clipseg_ws.cli.demo import demo
from clipseg_ws.cli.doctor import doctor
from clipseg_ws.cli.download import download
from clipseg_ws.cli.eval import eval_app
from clipseg_ws.cli.fewshot import fewshot
from clipseg_ws.cli.list import list_kind
from clipseg_ws.cli.predict import predict
from clipseg_ws.cli.prompts import prompts_app
from clipseg_ws.cli.pseudo import pseudo
from clipseg_ws.cli.report import report
from clipseg_ws.cli.stopping import stopping
from clipseg_ws.cli.supports import SupportCommand
from clipseg_ws.cli.train import train

COMMANDS: dict[str, Callable[..., None] | typer.Typer] = {
    "predict": predict,
    "fewshot": fewshot,
    "pseudo": pseudo,
    "train": train,
    "eval": eval_app,
    "report": report,
    "bench": bench_app,
    "list": list_kind,
    "prompts": prompts_app,
    "demo": demo,
    "doctor": doctor,
    "download": download,
}


class InOrder(TyperGroup):
    """Lists the commands as the table does."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names."""
        return list(COMMANDS)


app = typer.Typer(
    name="clipseg-ws",
    cls=InOrder,
    help="Semantic segmentation with a frozen CLIP: by class names, by example masks, by weak labels.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _name, _command in COMMANDS.items():
    if isinstance(_command, typer.Typer):
        app.add_typer(_command, name=_name)
    else:
        app.command(_name, cls=SupportCommand)(_command)


def main() -> None:
    """Entry point: errors that a user can mend are one line, not a trace."""
    with stopping():
        try:
            app()
        except (ValueError, OSError, ImportError) as error:
            typer.echo(f"clipseg-ws: {error}", err=True)
            sys.exit(2)


def _version(value: bool) -> None:
    if value:
        from clipseg_ws import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


if __name__ == "__main__":
    main()
