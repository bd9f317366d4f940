"""Commands whose options come in groups: typer sees single options, the command gets one object a group."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from inspect import Parameter, Signature, signature
from typing import Any, get_type_hints


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """The command with every parameter that is a dataclass of options replaced by these options, in their order.

    Example:
        >>> @grouped
        ... def predict(pictures: Pictures, *, model: ModelOptions) -> None: ...
        >>> # typer sees predict(pictures, *, model="...", device="auto", ...)
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}
    shown: list[Parameter] = []
    for name, parameter in signature(command).parameters.items():
        if name in groups:
            inner = get_type_hints(groups[name], include_extras=True)
            shown += [_option(f.name, inner[f.name], f.default) for f in fields(groups[name])]
        else:
            shown.append(_option(name, hints[name], parameter.default))

    @functools.wraps(command)
    def call(**given: Any) -> None:
        made = {name: group(**{f.name: given.pop(f.name) for f in fields(group)}) for name, group in groups.items()}
        command(**given, **made)

    del call.__wrapped__  # or the command's own signature would be read
    call.__signature__ = Signature(shown)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in shown}
    return call


def _option(name: str, annotation: Any, default: Any) -> Parameter:
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
