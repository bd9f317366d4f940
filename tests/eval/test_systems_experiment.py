"""The experiment behind ``systems.csv``: both sides differ in the idea alone, rows are kept, the page tells them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
from fakes_eval import records

from clipseg_ws.config import resolve
from clipseg_ws.eval.experiments import systems as module
from clipseg_ws.eval.experiments.systems import COLUMNS, SYSTEMS, measure_systems
from clipseg_ws.eval.experiments.what_helps import TABLE, page
from clipseg_ws.eval.tables import read_table
from clipseg_ws.eval.tables import records as lines_of


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: f"{system.name}-{system.setting}")
def test_both_sides_are_possible_and_differ(system):
    sides = [resolve(system.method, dict(system.row(idea).given)) for idea in (False, True)]
    assert sides[0] != sides[1] and all(side.refine == "none" for side in sides)


class FakeTask:
    """A task whose score is the number of its settings."""

    ran: ClassVar[list[str]] = []

    def __init__(self, row, data, segmenter):
        self.row, self.run = row, str(sorted(row.given.items(), key=str))

    def measure(self, out):
        if self.row.setting == "weak":
            raise ValueError("no such pictures")
        FakeTask.ran.append(self.run)
        return {"mIoU": len(self.row.given) / 10, "pictures": 7}


def test_rows_are_written_kept_and_said(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "Task", FakeTask)
    models = SimpleNamespace(of=lambda row: None, known=(), name="photo", digest="0" * 64)
    photos = SimpleNamespace(load=lambda row, known: [], seeds=(0, 1))
    chosen = [system for system in SYSTEMS if system.name in ("PPNet", "HSNet", "DRS")]
    path, said = tmp_path / "systems.csv", []
    assert measure_systems(models, photos, chosen, path, "make", said.append) == ["DRS"]
    assert len(FakeTask.ran) == 3  # the side without is one for both
    rows = {row["system"]: row for row in records(path, COLUMNS)}
    assert set(rows) == {"PPNet", "HSNet"} and rows["PPNet"]["gain"] == "0.1" and rows["PPNet"]["seeds"] == "2"
    assert rows["PPNet"]["command"] == "make --only 'PPNet'" and any("no such pictures" in text for text in said)
    measure_systems(models, photos, chosen, path, "make", said.append)
    assert len(FakeTask.ran) == 3 and len(records(path, COLUMNS)) == 2
    told = page(list(rows.values()))
    assert "| PPNet | part prototypes | few-5, default |" in told and "| +10.0 | 7 | `parts=True` |" in told
    assert "Not measured yet: R2-D2" in told
    with pytest.raises(ValueError, match="no rows"):
        page([])


def test_the_page_is_made_of_the_table():
    """In a checkout: nobody wrote into the page by hand."""
    root = Path(__file__).parents[2]
    if not (root / TABLE).is_file():
        pytest.skip("not a checkout")
    assert (root / "docs/what-helps.md").read_text("utf-8") == page(lines_of(read_table(root / TABLE, COLUMNS)))
