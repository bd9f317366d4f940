"""Groups of commands of which one is meant where none is named: ``clipseg-ws eval scenes`` is ``eval run scenes``."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup


class DefaultGroup(TyperGroup):
    """Puts ``first`` in front where the first word is no sub-command; where no word is given only if ``alone``."""

    first = "run"
    alone = False

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """See the class; --help is the group's own."""
        named = bool(args) and (args[0] in self.commands or args[0] in ("--help", "-h"))
        if not named and (args or self.alone):
            args = [self.first, *args]
        return super().parse_args(ctx, args)
