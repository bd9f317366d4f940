"""Leave a random sample of the changes in a session of Cosmic Ray: ``python tests/mutation/sample.py session.sqlite``.

Every place in the code that an operator can change counts once, and one of its changes is drawn, so that a sum (eleven
other operators, most of which raise at once) weighs as much as a number. Left out are places where a change moves no
number: annotations, decorators, messages of ``raise``, the keywords ``KEYWORDS``, and the ``*`` of a signature (which
Cosmic Ray takes for a product).
"""

from __future__ import annotations

import ast
import random
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from cosmic_ray.tools.filters.filter_app import FilterApp
from cosmic_ray.work_item import WorkerOutcome, WorkResult

KEYWORDS = ("strict", "frozen", "slots", "non_blocking", "repr", "kw_only")

Span = tuple[tuple[int, int], tuple[int, int]]


def _span(node: Any) -> Span:
    return (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)


def without_numbers(source: str) -> list[Span]:
    """The spans ((line, column), (line, column)) of ``source`` that the sample leaves out."""
    spans = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            spans += [_span(decorator) for decorator in node.decorator_list]
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.returns is not None:
            spans.append(_span(node.returns))
        if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation is not None:
            spans.append(_span(node.annotation))
        if isinstance(node, ast.Raise) or (isinstance(node, ast.keyword) and node.arg in KEYWORDS):
            spans.append(_span(node))
    return spans


def is_marker(source: str, start: tuple[int, int], name: str) -> bool:
    """Whether a "product" is the bare ``*`` (or ``/``) between the parameters of a function."""
    line = source.splitlines()[start[0] - 1]
    before, after = line[: start[1]].rstrip(), line[start[1] + 1 :].lstrip()
    return name == "ReplaceBinaryOperator" and (after[:1] in (",", "") or before[-1:] in ("", ",", "("))


def family(operator: str) -> str:
    """core/ReplaceBinaryOperator_Add_Sub -> ReplaceBinaryOperator: what counts as one kind of change of a place."""
    return re.sub(r"_.*", "", operator.removeprefix("core/"))


class Sample(FilterApp):  # type: ignore[misc]
    """The filter: what is not drawn is marked as skipped."""

    def description(self) -> str:
        return str(__doc__)

    def add_args(self, parser: Any) -> None:
        parser.add_argument("--number", type=int, default=150, help="Changes to leave")
        parser.add_argument("--seed", type=int, default=20)

    def filter(self, work_db: Any, args: Any) -> None:
        """Mark everything but ``args.number`` drawn changes as skipped; print how many places there are."""
        places = defaultdict(list)
        left_out: dict[str, list[Span]] = {}
        sources: dict[str, str] = {}
        items = list(work_db.pending_work_items)
        for item in items:
            change = item.mutations[0]
            path = str(change.module_path)
            if path not in left_out:
                sources[path] = Path(path).read_text()
                left_out[path] = without_numbers(sources[path])
            start = tuple(change.start_pos)
            name = family(change.operator_name)
            if is_marker(sources[path], start, name):
                continue
            if name == "RemoveDecorator" or any(low <= start < high for low, high in left_out[path]):
                continue
            places[path, start, tuple(change.end_pos), name].append(item)
        draw = random.Random(args.seed)
        keys = draw.sample(sorted(places), min(args.number, len(places)))
        drawn = {
            draw.choice(sorted(places[key], key=lambda item: (item.mutations[0].operator_name,
                                                              item.mutations[0].occurrence))).job_id
            for key in keys
        }  # fmt: skip
        skipped = WorkResult(output="not drawn", worker_outcome=WorkerOutcome.SKIPPED)
        for item in items:
            if item.job_id not in drawn:
                work_db.set_result(item.job_id, skipped)
        print(f"{len(items)} changes at {len(places)} places; {len(drawn)} drawn with seed {args.seed}")


if __name__ == "__main__":
    sys.exit(Sample().main())
