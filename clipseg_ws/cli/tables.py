"""Tables as text: aligned for a terminal, or Markdown for documentation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

Rows = Sequence[Sequence[str]]


def aligned(rows: Rows) -> Iterator[str]:
    """A line a row, columns of one width two spaces apart."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def markdown(rows: Rows) -> Iterator[str]:
    """The same as a Markdown table; the first row holds the headings."""
    for number, row in enumerate(rows):
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
        if not number:
            yield "|" + "---|" * len(row)


def without_empty(rows: Rows) -> list[list[str]]:
    """The columns in which a row below the headings says something."""
    kept = [i for i in range(len(rows[0])) if any(row[i] for row in rows[1:])]
    return [[row[i] for i in kept] for row in rows]
