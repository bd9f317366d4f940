"""A page as a list of blocks, written as Markdown and as one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;color:#222}
table{border-collapse:collapse;margin:1em 0;display:block;overflow-x:auto}
th,td{border:1px solid #ddd;padding:.25em .6em;text-align:left;white-space:nowrap}
th{background:#f4f4f4}tr.own td{background:#eef6ff;font-weight:600}
.warn{background:#fff6e0;border-left:4px solid #e0a000;padding:.3em 1em;margin:.5em 0}img{max-width:100%}
"""


@dataclass(frozen=True)
class Heading:
    """A heading of level 1 to 3."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Warnings:
    """Things to beware of, one line each."""

    lines: Sequence[str]


@dataclass(frozen=True)
class Table:
    """Header and rows of cells; rows whose index is in ``own`` are set off. ``fold`` hides it behind its title."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    own: frozenset[int] = frozenset()
    fold: str = ""


@dataclass(frozen=True)
class Picture:
    """A picture file and what it shows."""

    path: Path
    title: str


Block = Heading | Text | Warnings | Table | Picture


def _plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    escaped = "".join("\\" + c if c in "\\`*_{}[]<>|#!~@" else c for c in text)
    unlinked = re.sub(r":(?=/)|(?<=www)\.", r"\\\g<0>", escaped, flags=re.IGNORECASE)  # GitHub links bare addresses
    return " ".join(unlinked.splitlines())


def markdown(blocks: Sequence[Block], folder: Path) -> str:
    """The page as Markdown; pictures by their path relative to ``folder``."""
    out = []
    for block in blocks:
        if isinstance(block, Heading):
            out.append(f"{'#' * block.level} {_plain(block.text)}")
        elif isinstance(block, Text):
            out.append(_plain(block.text))
        elif isinstance(block, Warnings):
            out.append("\n".join(f"> **Warning:** {_plain(line)}  " for line in block.lines))
        elif isinstance(block, Picture):
            out.append(f"![{_plain(block.title)}]({quote(block.path.relative_to(folder).as_posix())})")
        else:
            lines = [[_plain(c) for c in block.header], ["---"] * len(block.header)]
            rows = [[_plain(c) for c in row] for row in block.rows]
            rows = [[f"**{c}**" if c and i in block.own else c for c in row] for i, row in enumerate(rows)]
            out += [_plain(block.fold)] if block.fold else []
            out.append("\n".join("| " + " | ".join(cells) + " |" for cells in [*lines, *rows]))
    return "\n\n".join(out) + "\n"


def page(blocks: Sequence[Block], title: str) -> str:
    """The page as one HTML document, pictures inside."""
    body = "\n".join(_html(block) for block in blocks)
    head = (
        f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{html.escape(title)}</title>'
    )
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}<style>{STYLE}</style></head>\n<body>\n{body}\n</body></html>\n'
    )


def _html(block: Block) -> str:
    if isinstance(block, Heading):
        return f"<h{block.level}>{html.escape(block.text)}</h{block.level}>"
    if isinstance(block, Text):
        return f"<p>{html.escape(block.text)}</p>"
    if isinstance(block, Warnings):
        return "\n".join(f'<div class="warn">{html.escape(line)}</div>' for line in block.lines)
    if isinstance(block, Picture):
        kind = "png" if block.path.suffix == ".png" else "jpeg"
        data = base64.b64encode(block.path.read_bytes()).decode()
        title = html.escape(block.title)
        image = f'<img alt="{title}" src="data:image/{kind};base64,{data}">'
        return f"<figure>{image}<figcaption>{title}</figcaption></figure>"
    cells = "".join(f"<th>{html.escape(c)}</th>" for c in block.header)
    rows = "\n".join(
        f"<tr{' class=own' if i in block.own else ''}>{''.join(f'<td>{html.escape(c)}</td>' for c in row)}</tr>"
        for i, row in enumerate(block.rows)
    )
    table = f"<table><tr>{cells}</tr>\n{rows}</table>"
    return f"<details><summary>{html.escape(block.fold)}</summary>{table}</details>" if block.fold else table
