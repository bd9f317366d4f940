"""The command ``list``: everything that is chosen by name, from the registries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from importlib.util import find_spec
from typing import Annotated, Any

import typer

from clipseg_ws.backbones import choose_model, model_card
from clipseg_ws.cli.options import Model, option
from clipseg_ws.cli.tables import Rows, aligned, markdown, without_empty
from clipseg_ws.registry import Entry, Registry, Spec, find, registry


def _kind(name: str, home: str, summary: str, *columns: str) -> Entry:
    """``home``: "package.module:NAME", a registry or a function that gives one; ``columns``: keys of ``about``."""
    return Entry(name, summary, f"clipseg_ws.{home}", about={"columns": columns})


KINDS = registry(
    _kind("methods", "config:METHODS", "--method; parameters are the settings that differ from the default's"),
    _kind("steps", "config:STEPS", "--set NAME=true, --set NAME.PARAMETER=VALUE, --set steps=...", "when", "gain"),
    _kind("refiners", "refine:REFINERS", "--refine, refinement on the picture"),
    _kind("dense", "activations:DENSE_MODES", "--set dense_mode=..., attention of the last block"),
    _kind("features", "activations:FEATURES", "--set fewshot.kinds=[...], what is compared with examples"),
    _kind("refits", "fewshot.options:REFITS", "--set fewshot.refit=..., how a query mends its own match"),
    _kind("regions", "regions:REGIONS", "--regions, parts of a picture that belong together", "form"),
    _kind("labellers", "regions:LABELLERS", "--labeller, what names things beside CLIP", "form"),
    _kind("families", "backbones:FAMILIES", "--model, how a model's name is written", "form", "example"),
    _kind("second-models", "backbones:FEATURES", "--features, models for patch features only", "form", "example"),
    _kind("formats", "output.formats:FORMATS", "--format, files of a picture or of the whole folder", "scope", "file"),
    _kind("tags", "weak:TAG_FORMATS", "--tags, files that say what is in a picture", "title"),
    _kind("marks", "weak:MARK_FORMATS", "--marks, files of boxes, points, scribbles", "title"),
    _kind("engines", "run:ENGINES", "--engine, who does the work"),
    _kind("heads", "heads:HEADS", "train --kind, modules on frozen tokens"),
    _kind("losses", "heads:LOSSES", "what a head learns from"),
    _kind("schemes", "heads:SCHEMES", "train --scheme, courses of training"),
    _kind("weightings", "heads:WEIGHTINGS", "train --weighting, how much a pixel counts by its confidence"),
    _kind("datasets", "eval.datasets:DATASETS", "clipseg-ws eval NAME", "kind"),
    _kind("protocols", "eval.protocols:PROTOCOLS", "eval --protocol, constants of a paper"),
    _kind("vocabularies", "text.tables:vocabularies", "--classes, class files that come with the package", "classes"),
    _kind("templates", "text.tables:templates", "--set templates=..., prompts round a name"),
    _kind("backgrounds", "text.tables:backgrounds", "--background, words that compete as background"),
)
EVERYTHING, NAMES = "all", "names"
Kind = Annotated[
    str | None,
    typer.Argument(
        help=f"{', '.join(KINDS)}; {EVERYTHING}, one after the other; or {NAMES}, what a --model knows. Without: the "
        "kinds."
    ),
]
Markdown = Annotated[bool, option("--markdown", help="As a table for documentation.")]


def list_kind(kind: Kind = None, model: Model = None, as_markdown: Markdown = False) -> None:
    """What can be chosen by name: its parameters with their defaults, the paper, whether it is installed."""
    if model is not None and kind != NAMES:
        raise ValueError(f"--model is for the kind {NAMES}; write clipseg-ws list {NAMES} --model {model}")
    if kind == NAMES:
        if as_markdown:
            raise ValueError(f"{NAMES} are a list, no table; leave out --markdown")
        for line in known_names(model or choose_model(partial(typer.echo, err=True))):
            typer.echo(line)
        return
    for line in page(as_markdown) if kind == EVERYTHING else lines_of(kind, as_markdown):
        typer.echo(line)


def known_names(model: str) -> Iterator[str]:
    """A line a thing that a model knows, or one that says that it knows no list. Loads no weights.

    Raises ValueError, FileNotFoundError as ``backbones.model_card``.
    """
    card = model_card(model)
    if not card.known_classes:
        yield f"{model} knows no list: it takes any words, and knows those well that its training texts used often"
    yield from card.known_classes


def lines_of(kind: str | None, as_markdown: bool) -> Iterable[str]:
    """The table of a kind; for documentation without what is installed on this machine."""
    return markdown(table_of_kind(kind, here=False)) if as_markdown else aligned(table_of_kind(kind))


def page(as_markdown: bool) -> Iterator[str]:
    """Every kind below its heading; as Markdown this is docs/lists.md."""
    if as_markdown:
        yield "# What can be chosen by name"
        yield ""
        yield f"Made by `clipseg-ws list {EVERYTHING} --markdown > docs/lists.md` from the registries; do not edit."
    for kind, entry in KINDS.items():
        yield ""
        yield f"## {kind}" if as_markdown else kind.upper()
        yield ""
        yield f"{entry.summary}." if as_markdown else entry.summary
        yield ""
        yield from lines_of(kind, as_markdown)


def entries(kind: str) -> Registry:
    """The registry of a kind. Raises ValueError for an unknown kind."""
    made: Any = find(KINDS, kind, "kind").load()
    table: Registry = made() if callable(made) else made
    return table


def table_of_kind(kind: str | None, here: bool = True) -> Rows:
    """Rows of text below their headings; without a kind those of ``KINDS``. ``here``: say what is installed."""
    if kind is None:
        return [["kind", "what"], *([entry.name, entry.summary] for entry in KINDS.values())]
    more = find(KINDS, kind, "kind").about["columns"]
    rows = [["name", *more, "summary", "parameters", "paper", "needs"]]
    for entry in entries(kind).values():
        about = [str(entry.about.get(key) or "") for key in more]
        rows.append([entry.name, *about, entry.summary, written(entry.parameters), entry.paper, needs(entry, here)])
    return without_empty(rows)


def written(parameters: Mapping[str, Any]) -> str:
    """ "iterations=10, dilations=[8, 16]", settings inside settings as "fewshot.prior=0.0"."""
    flat: dict[str, Any] = {}
    for key, value in parameters.items():
        flat |= {f"{key}.{k}": v for k, v in value.items()} if isinstance(value, Mapping) else {key: value}
    return str(Spec("", tuple(flat.items())))[1:-1]


def needs(entry: Entry, here: bool = True) -> str:
    """ "skimage: installed" by module and extra; empty where nothing is needed."""
    if entry.needs is None:
        return ""
    module, extra = entry.needs
    if not here:
        return f"{module}, extra {extra}"
    return f"{module}: {'installed' if find_spec(module) else f'pip install clipseg_ws[{extra}]'}"
