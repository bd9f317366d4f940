"""The command line ``clipseg-ws``: a thin client of the public API. Command bodies import what they need."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import Annotated, Any, TextIO

import typer
from typer.core import TyperGroup

from clipseg_ws.cli.bank import bank_app
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
from clipseg_ws.cli.serve import serve
from clipseg_ws.cli.shards import unpack
from clipseg_ws.cli.stopping import stopping
from clipseg_ws.cli.supports import SupportCommand
from clipseg_ws.cli.train import train
from clipseg_ws.pictures.suffixes import IMAGE_SUFFIXES
from clipseg_ws.values import near_miss

COMMANDS: dict[str, Callable[..., None] | typer.Typer] = {
    "predict": predict,
    "unpack": unpack,
    "fewshot": fewshot,
    "bank": bank_app,
    "pseudo": pseudo,
    "train": train,
    "eval": eval_app,
    "report": report,
    "bench": bench_app,
    "list": list_kind,
    "prompts": prompts_app,
    "demo": demo,
    "serve": serve,
    "doctor": doctor,
    "download": download,
}


USES = """Semantic segmentation with a frozen CLIP and no training. Five uses:

  names         clipseg-ws predict photo.jpg -c "cat; sofa; person, people"
  examples      clipseg-ws fewshot photos/ --support cat.jpg cat.png cat
  weak labels   clipseg-ws pseudo photos/ --tags tags.csv -o masks/
  evaluation    clipseg-ws eval scenes --setting weak --model nano --count 20
  the page      clipseg-ws demo --web

First look, no download:  clipseg-ws demo
All commands:             clipseg-ws --help     (of one: clipseg-ws predict --help)
What can be chosen:       clipseg-ws list       Is it all here? clipseg-ws doctor"""


class InOrder(TyperGroup):
    """Lists the commands as the table does; an unknown one is answered with the nearest."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names."""
        return list(COMMANDS)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Raises ValueError for an unknown command, as ``main`` shows it."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            nearest = near_miss(args[0], COMMANDS) or _picture_hint(args[0])
            raise ValueError(f"{args[0]!r} is no command; {nearest}choose one of {', '.join(COMMANDS)}")
        return super().resolve_command(ctx, args)


def _picture_hint(word: str) -> str:
    looks = word.lower().endswith(IMAGE_SUFFIXES) or "/" in word
    return f'for a picture write clipseg-ws predict {word} -c "cat; sofa"; ' if looks else ""


app = typer.Typer(
    name="clipseg-ws",
    cls=InOrder,
    help="Semantic segmentation with a frozen CLIP: by class names, by example masks, by weak labels.",
    invoke_without_command=True,
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
            with warnings.catch_warnings():
                warnings.showwarning = _show
                app()
        except (ValueError, OSError, ImportError) as error:
            typer.echo(f"clipseg-ws: {error}", err=True)
            sys.exit(2)


def _show(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: TextIO | None = None,
    line: str | None = None,
) -> None:  # fmt: skip
    """What concerns the user in one line; warnings for programmers as Python prints them."""
    if issubclass(category, UserWarning):
        typer.echo(f"clipseg-ws: {message}", err=True)
    else:
        typer.echo(warnings.formatwarning(message, category, filename, lineno, line), err=True, nl=False)


def _version(value: bool) -> None:
    if value:
        from clipseg_ws import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if ctx.invoked_subcommand is None:
        typer.echo(USES)


if __name__ == "__main__":
    main()
