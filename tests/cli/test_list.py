"""``clipseg-ws list KIND``: every kind has its registry, and the table holds everything that is in it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from clipseg_ws.cli.app import app
from clipseg_ws.cli.list import KINDS, entries, table_of_kind
from clipseg_ws.registry import Entry


def call(*args: str) -> str:
    done = CliRunner().invoke(app, ["list", *args])
    assert done.exit_code == 0, done.output
    return done.output


def test_without_a_kind_the_kinds_are_listed():
    printed = call()
    assert all(kind in printed for kind in KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_a_registry_and_is_listed_whole(kind):
    table = entries(kind)
    assert table and all(isinstance(entry, Entry) and entry.name == name for name, entry in table.items())
    printed, marked = call(kind), call(kind, "--markdown")
    assert len(printed.splitlines()) == 1 + len(table) and len(marked.splitlines()) == 2 + len(table)
    for name, entry in table.items():
        row = next(line for line in marked.splitlines() if line.startswith(f"| {name} |"))
        assert entry.summary.replace("|", "\\|") in row and entry.paper in row
        assert all(f"{key}=" in row or f"{key}." in row for key in entry.parameters)
    assert not (set(table_of_kind(kind)[0]) & {"name", "summary"}) ^ {"name", "summary"}


@pytest.mark.parametrize("kind", KINDS)
def test_listing_is_light(kind):
    code = f"import sys; from clipseg_ws.cli.list import table_of_kind; table_of_kind({kind!r})\n"
    code += "print(sorted({'torch', 'pandas', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_lines_are_aligned_and_say_what_is_set():
    lines = call("refiners").splitlines()
    pamr = next(line for line in lines if line.startswith("pamr "))
    assert "iterations=10, dilations=[8, 16]" in pamr and "CVPR 2020" in pamr
    assert lines[0].index("summary") == pamr.index("averages")
    assert "fewshot.prior=0.0" in call("methods")
    assert "pycocotools, extra coco" in call("formats", "--markdown")
    assert "installed" in call("formats") or "pip install clipseg_ws[coco]" in call("formats")


def test_an_unknown_kind_names_the_nearest():
    with pytest.raises(ValueError, match="kind 'refiner' is unknown; did you mean 'refiners'"):
        CliRunner().invoke(app, ["list", "refiner"], catch_exceptions=False)


def test_the_documentation_holds_the_lists_as_they_are():
    page = Path(__file__).resolve().parents[2] / "docs" / "lists.md"
    assert page.read_text("utf-8") == call("all", "--markdown"), "clipseg-ws list all --markdown > docs/lists.md"
    assert call("all").count("\n") > sum(len(entries(kind)) for kind in KINDS)
