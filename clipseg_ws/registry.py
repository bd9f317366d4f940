"""Registries: plain dicts of light entries, and the one notation in which a name with parameters is written.

Every kind of thing that a user chooses by name stands in one dict ``name -> Entry``: methods, steps, dense modes,
refiners, formats, data sets, heads, losses, families. ``--help``, error messages, ``clipseg-ws list``, the tables of
the documentation and the parametrised contract tests are made from them. Importing a registry imports no torch:
an entry names its function as "module:function", which ``load`` imports.

``pamr(iterations=5, dilations=[8, 16])`` is a ``Spec``: a name and the parameters that differ from the entry's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from clipseg_ws.values import checked_value, near_miss, read_value


@dataclass(frozen=True)
class Entry:
    """One line of a registry.

    Attributes:
        name: what a user writes. summary: one sentence without a full stop, for help texts and tables.
        home: "package.module:name" of what does it; empty where the entry is data alone.
        parameters: name -> default of what may be set. paper: "Authors, venue, arXiv number", or empty.
        needs: (module, extra) that must be installed, or None. about: whatever else a kind of registry knows.
    """

    name: str
    summary: str
    home: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    paper: str = ""
    needs: tuple[str, str] | None = None
    about: Mapping[str, Any] = field(default_factory=dict)

    def load(self) -> Any:
        """What ``home`` names. Raises ImportError with the extra's name where a package is missing."""
        self.check_installed()
        module, _, name = self.home.partition(":")
        return getattr(import_module(module), name)

    def check_installed(self) -> None:
        """Raise ImportError where ``needs`` is not installed."""
        if self.needs is not None and find_spec(self.needs[0]) is None:
            raise ImportError(f"{self.name!r} needs {self.needs[0]}: pip install 'clipseg_ws[{self.needs[1]}]'")


Registry = Mapping[str, Entry]


def registry(*entries: Entry) -> dict[str, Entry]:
    """Entries by name, in order. Raises ValueError for a name that stands twice."""
    table = {entry.name: entry for entry in entries}
    if len(table) != len(entries):
        raise ValueError(f"a name stands twice among {', '.join(entry.name for entry in entries)}")
    return table


def find(table: Registry, name: str, kind: str) -> Entry:
    """The entry of a name. Raises ValueError that names the choices and the nearest; ``kind`` is for its text."""
    if name not in table:
        raise ValueError(f"{kind} {name!r} is unknown; {near_miss(name, table)}choose one of {', '.join(table)}")
    return table[name]


@dataclass(frozen=True)
class Spec:
    """A name of a registry with the parameters that were given: ``str`` writes it as ``parse_spec`` reads it."""

    name: str
    parameters: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        inner = ", ".join(f"{key}={_written(value)}" for key, value in self.parameters)
        return f"{self.name}({inner})" if inner else self.name

    def get(self, key: str, default: Any = None) -> Any:
        """The parameter where it was given, else ``default``."""
        return dict(self.parameters).get(key, default)

    def given(self, **parameters: Any) -> Spec:
        """The same with these parameters set."""
        return Spec(self.name, tuple((dict(self.parameters) | parameters).items()))

    def resolved(self, table: Registry) -> dict[str, Any]:
        """All parameters: the entry's defaults, then what was given."""
        return dict(table[self.name].parameters) | dict(self.parameters)


def parse_spec(text: str, table: Registry, kind: str) -> Spec:
    """ "pamr(iterations=5)" -> its ``Spec``, names and types checked.

    An entry with ``about["argument"]`` takes the value of that parameter behind a colon too: "sam:REPO(points=16)".

    Args:
        kind: of the entries, for the error: "refiner", "step".

    Raises:
        ValueError: an unknown name or parameter, a value of another type than the default; says what is allowed.
    """
    name, bracket, rest = text.strip().partition("(")
    name, colon, argument = name.strip().partition(":")
    if colon and not (name in table and "argument" in table[name].about):
        name, colon = f"{name}:{argument}", ""  # unknown as it stands
    entry = find(table, name, kind)
    if bracket and not rest.endswith(")"):
        raise ValueError(f"{kind} {text!r} has no closing bracket; write for example {_example(entry)}")
    given: dict[str, Any] = {entry.about["argument"]: argument} if colon else {}
    for part in split_outside(rest[:-1], ",") if bracket else ():
        key, sign, value = part.partition("=")
        if not sign:
            raise ValueError(f"{kind} {text!r}: {part.strip()!r} has no '='; write for example {_example(entry)}")
        given[key.strip()] = read_value(value)
    return checked_spec(Spec(entry.name, tuple(given.items())), table, kind)


def checked_spec(spec: Spec, table: Registry, kind: str) -> Spec:
    """The same, its parameters of the right types. Raises ValueError as ``parse_spec``."""
    entry = find(table, spec.name, kind)
    values = {}
    for key, value in spec.parameters:
        if key not in entry.parameters:
            known = ", ".join(entry.parameters) or "none"
            hint = near_miss(key, entry.parameters)
            raise ValueError(f"{kind} {entry.name!r} has no parameter {key!r}; {hint}its parameters: {known}")
        values[key] = checked_value(f"{entry.name}.{key}", value, entry.parameters[key])
    return Spec(entry.name, tuple(values.items()))


def parse_specs(text: str | Sequence[Any], table: Registry, kind: str, separator: str = ",") -> tuple[Spec, ...]:
    """Several of them, from "affinity, saliency(weight=0.5)" or a sequence of texts and specs; "none" or "": none."""
    if isinstance(text, str):
        text = [] if text.strip() in ("", "none") else split_outside(text, separator)
    specs = [checked_spec(t, table, kind) if isinstance(t, Spec) else parse_spec(str(t), table, kind) for t in text]
    names = [spec.name for spec in specs]
    if len(set(names)) != len(names):
        raise ValueError(f"{kind}s {', '.join(names)}: each may stand once")
    return tuple(specs)


def split_outside(text: str, separator: str) -> list[str]:
    """Parts between separators that stand in no bracket, stripped, empty ones left out."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == separator and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]


def table_of(
    entries: Registry | Iterable[Entry], columns: Sequence[str] = ("name", "summary", "paper")
) -> list[list[str]]:
    """Rows of text for lists and documentation; the first row holds the headings."""
    listed = list(entries.values()) if isinstance(entries, Mapping) else list(entries)
    rows = [[str(getattr(e, c) if hasattr(e, c) else e.about.get(c, "")) for c in columns] for e in listed]
    return [list(columns), *rows]


def _example(entry: Entry) -> str:
    first = next(iter(entry.parameters.items()), None)
    return entry.name if first is None else f"{entry.name}({first[0]}={_written(first[1])})"


def _written(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(_written(item) for item in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and (not value or any(c in value for c in ",()=[]+:; ")):
        return f'"{value}"'
    return str(value)
