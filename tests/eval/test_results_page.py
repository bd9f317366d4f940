"""eval/RESULTS.md is made from the rows in eval/results/; every file of rows is shown or named there."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from clipseg_ws.eval.experiments import results_page
from clipseg_ws.eval.experiments.results_page import TABLES, Table, page

ROOT = Path(__file__).resolve().parents[2]
ROWS, TEXT = ROOT / "eval/results", ROOT / "eval/experiments/results_text.md"


def test_the_page_is_up_to_date():
    made = "python -m clipseg_ws.eval.experiments.results_page > eval/RESULTS.md"
    assert (ROOT / "eval/RESULTS.md").read_text("utf-8") == page(ROWS, TEXT), made


def test_every_file_of_rows_has_its_place():
    text = TEXT.read_text("utf-8")
    assert [file.name for file in sorted(ROWS.glob("*.csv")) if f"(results/{file.name})" not in text] == []
    assert {table.file for table in TABLES.values()} <= {file.name for file in ROWS.glob("*.csv")}


def write(folder: Path, *rows: dict[str, str]) -> None:
    with (folder / "t.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def test_cells_are_rows_of_the_file(tmp_path):
    write(tmp_path, {"method": "a", "n": "1", "mIoU": "0.5"}, {"method": "a", "n": "1", "mIoU": "0.6"},
          {"method": "a", "n": "2", "mIoU": ""}, {"method": "b", "n": "2", "mIoU": "0.123456"})  # fmt: skip
    columns = [("one", {"n": "1"}, "mIoU"), ("two", {"n": "2"}, "mIoU")]
    table = Table("t.csv", "method", [("A", {"method": "a"}), ("B", {"method": "b"})], columns)
    assert table.lines(tmp_path) == [
        ["method", "one", "two"], ["A", "50.0, 60.0 (mean 55.0)", ""], ["B", "", "12.3"],
    ]  # fmt: skip


def test_a_line_without_a_number_is_an_error(tmp_path):
    write(tmp_path, {"method": "a", "n": "1", "mIoU": "0.5"})
    table = Table("t.csv", "method", [("C", {"method": "c"})], [("one", {}, "mIoU")])
    with pytest.raises(ValueError, match=r"t\.csv has no row for 'C'"):
        table.lines(tmp_path)


def test_a_table_without_a_place_in_the_text_is_an_error(tmp_path):
    (tmp_path / "text.md").write_text("nothing", encoding="utf-8")
    with pytest.raises(ValueError, match="has no place for the table"):
        results_page.page(ROWS, tmp_path / "text.md")
